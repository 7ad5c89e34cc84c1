//! What a scenario found out, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    run::{Errors, Sampled},
    stats::{Latencies, Percentiles},
};

/// One number with its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is; `compare` finds it by this name.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// The result of one scenario with one set of parameters.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Which scenario.
    pub scenario: String,
    /// What it was run with.
    pub parameters: Vec<(String, String)>,
    /// The numbers.
    pub figures: Vec<Figure>,
    /// Latencies by what they are of.
    pub latencies: Vec<(String, Percentiles)>,
    /// What the server refused.
    pub errors: BTreeMap<String, u64>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Tables for people, which hold nothing that the rest does not tell.
    pub tables: Vec<String>,
}

impl Outcome {
    /// An outcome without numbers yet.
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), ..Self::default() }
    }

    /// Adds a parameter.
    pub fn parameter(mut self, name: &str, value: impl ToString) -> Self {
        self.parameters.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a number.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// The number of that name; percentiles are `<of what>.p50` and so on, errors `errors`.
    pub fn value(&self, name: &str) -> Option<f64> {
        if name == "errors" {
            return Some(self.errors.values().sum::<u64>() as f64);
        }
        if let Some(figure) = self.figures.iter().find(|figure| figure.name == name) {
            return Some(figure.value);
        }
        let (of, which) = name.rsplit_once('.')?;
        let (_, p) = self.latencies.iter().find(|(name, _)| name == of)?;
        match which {
            "p50" => Some(p.p50_us),
            "p90" => Some(p.p90_us),
            "p99" => Some(p.p99_us),
            "p999" => Some(p.p999_us),
            "max" => Some(p.max_us),
            _ => None,
        }
    }

    /// Adds percentiles, if there are any.
    pub fn latency(&mut self, of: &str, latencies: &Latencies) {
        if let Some(percentiles) = latencies.percentiles() {
            self.latencies.push((of.to_owned(), percentiles));
        }
    }

    /// Adds what the server refused.
    pub fn errors(&mut self, errors: &Errors) {
        for (text, count) in &errors.0 {
            *self.errors.entry(text.clone()).or_default() += count;
        }
    }

    /// Adds the rate and what a message cost, for `count` messages of `size` bytes.
    pub fn rates(&mut self, sampled: &Sampled, count: u64, size: usize) {
        let rate = count as f64 / sampled.seconds.max(1e-9);
        self.figure("rate", rate, "msgs/s");
        self.figure("volume", rate * size as f64 / f64::from(1 << 20), "MiB/s");
        self.costs(sampled, count);
    }

    /// Adds what a message cost the server and this process.
    pub fn costs(&mut self, sampled: &Sampled, count: u64) {
        let per_message = |seconds: f64| seconds * 1e6 / count.max(1) as f64;
        if let Some(cpu) = sampled.server_cpu {
            self.figure("server_cpu_per_msg", per_message(cpu), "us");
            self.figure("server_cpus", cpu / sampled.seconds.max(1e-9), "cpus");
        }
        self.figure("generator_cpu_per_msg", per_message(sampled.own_cpu), "us");
        if let Some(rss) = sampled.server_rss {
            self.figure("server_rss", rss as f64 / f64::from(1 << 20), "MiB");
        }
    }

    /// The outcome as JSON.
    pub fn to_json(&self) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|f| (f.name.clone(), json!({"value": f.value, "unit": f.unit})))
            .collect();
        let parameters: Map<String, Value> =
            self.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let latencies: Map<String, Value> =
            self.latencies.iter().map(|(of, p)| (of.clone(), json!(p))).collect();
        json!({
            "scenario": self.scenario,
            "parameters": parameters,
            "figures": figures,
            "latencies": latencies,
            "errors": self.errors,
            "notes": self.notes,
        })
    }

    /// The outcome as text.
    pub fn to_text(&self) -> String {
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut text = format!("{}  {}\n", self.scenario, parameters.join(" "));
        let mut figures = Table::new(&["", "", ""]);
        for figure in &self.figures {
            figures.row(vec![figure.name.clone(), number(figure.value), figure.unit.to_owned()]);
        }
        text.push_str(&figures.to_text(2));
        if !self.latencies.is_empty() {
            let head = ["latency, us", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "max"];
            let mut table = Table::new(&head);
            for (of, p) in &self.latencies {
                let mut row = vec![of.clone(), p.count.to_string()];
                let values =
                    [p.min_us, p.mean_us, p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us];
                row.extend(values.map(number));
                table.row(row);
            }
            text.push_str(&table.to_text(2));
        }
        for (error, count) in &self.errors {
            text.push_str(&format!("  {count} × {error}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("  note: {note}\n"));
        }
        for table in &self.tables {
            text.push_str(&format!("\n{table}"));
        }
        text
    }
}

/// A number for people: thousands apart, about four digits.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decimals = match value.abs() {
        0.0 => 0,
        a if a >= 1000.0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 1.0 => 2,
        _ => 4,
    };
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Text in columns: the first left, the others right.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; without a line for them when all are empty.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; what is missing stays empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines, indented.
    pub fn to_text(&self, indent: usize) -> String {
        let with_head = self.head.iter().any(|h| !h.is_empty());
        let lines: Vec<&Vec<String>> =
            with_head.then_some(&self.head).into_iter().chain(&self.rows).collect();
        let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
        let width = |column: usize| {
            lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for line in lines {
            let mut text = " ".repeat(indent);
            for (column, cell) in line.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                if column == 0 {
                    text.push_str(&format!("{cell}{gap}"));
                } else {
                    text.push_str(&format!("  {gap}{cell}"));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.0123"),
            (1.5, "1.50"),
            (123.45, "123.5"),
            (999.96, "1,000.0"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-4321.0, "-4,321"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["name", "x"]);
        table.row(vec!["a".into(), "1".into(), "us".into()]);
        table.row(vec!["longer".into(), "100".into()]);
        assert_eq!(table.to_text(1), " name      x\n a         1  us\n longer  100\n");
    }

    #[test]
    fn values_are_found_by_name() {
        let mut outcome = Outcome::new("x").parameter("size", 128);
        outcome.figure("rate", 5.0, "msgs/s");
        let mut latencies = Latencies::new();
        latencies.record(2_000);
        outcome.latency("ack", &latencies);
        outcome.latency("none", &Latencies::new());
        let mut errors = Errors::default();
        errors.add("429 too many");
        outcome.errors(&errors);
        assert_eq!(outcome.value("rate"), Some(5.0));
        assert_eq!(outcome.value("errors"), Some(1.0));
        assert!((outcome.value("ack.p50").unwrap() - 2.0).abs() < 0.01);
        assert_eq!(outcome.value("none.p50"), None);
        let json = outcome.to_json();
        assert_eq!(json["figures"]["rate"]["value"], 5.0);
        assert_eq!(json["parameters"]["size"], "128");
        assert_eq!(json["errors"]["429 too many"], 1);
        assert!(outcome.to_text().contains("429 too many"));
    }
}
