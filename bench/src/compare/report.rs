//! What a comparison found: medians, ratios and verdicts, as a table and as JSON.

use serde_json::{Value, json};

use crate::{
    compare::{
        Side,
        bars::{self, Figure, Step},
    },
    outcome::{Outcome, Table, number},
    stats::median,
};

/// The outcomes of one step.
#[derive(Default)]
pub struct Compared {
    outcomes: [Vec<Outcome>; 2],
    /// The generator's own rate against the sink, where a bar needs it.
    pub ceiling: Option<f64>,
    /// The device's medians, in microseconds, where a bar needs them.
    pub device: Vec<f64>,
}

/// One line of the table.
struct Row {
    a: Option<f64>,
    b: Option<f64>,
    unit: &'static str,
    /// The median of the ratios of the rounds, which were run in turn.
    ratio: Option<f64>,
    reached: Option<bool>,
}

impl Compared {
    /// Adds what one side reached in a round.
    pub fn add(&mut self, side: Side, outcomes: Vec<Outcome>) {
        self.outcomes[side as usize].extend(outcomes);
    }

    fn values(&self, side: Side, name: &str) -> Vec<f64> {
        self.outcomes[side as usize].iter().filter_map(|outcome| outcome.value(name)).collect()
    }

    fn row(&self, figure: &Figure) -> Row {
        let (a, b) = (self.values(Side::A, figure.name), self.values(Side::B, figure.name));
        let paired: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a / b).collect();
        let medians = (median(&a), median(&b));
        let limits = (self.ceiling, median(&self.device));
        let unit = self
            .outcomes
            .iter()
            .flatten()
            .flat_map(|outcome| &outcome.figures)
            .find(|known| known.name == figure.name)
            .map_or(if figure.name == "errors" { "msgs" } else { "us" }, |known| known.unit);
        Row {
            a: medians.0,
            b: medians.1,
            unit,
            ratio: median(&paired),
            reached: bars::judge(figure.bar, medians, limits),
        }
    }
}

/// The whole comparison.
pub struct Report {
    names: [String; 2],
    /// What was done.
    pub steps: Vec<(&'static Step, Compared)>,
    /// What could not be done, and why.
    pub failures: Vec<String>,
    /// What was not tried, and why.
    pub left_out: Vec<String>,
}

const HEAD: [&str; 7] = ["run", "figure", "A", "B", "A/B", "bar", ""];

impl Report {
    /// Of two servers by name, without anything yet.
    pub fn new(a: &str, b: &str) -> Self {
        Self {
            names: [a.to_owned(), b.to_owned()],
            steps: Vec::new(),
            failures: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// The table.
    pub fn to_text(&self) -> String {
        let mut table = Table::new(&HEAD);
        for (step, compared) in &self.steps {
            rows(&mut table, step, compared);
        }
        let mut text = format!("A: {}  B: {}\n{}", self.names[0], self.names[1], table.to_text(0));
        for (step, compared) in &self.steps {
            if let Some(ceiling) = compared.ceiling {
                text.push_str(&format!(
                    "{}: the generator's ceiling is {} msgs/s\n",
                    step.name,
                    number(ceiling)
                ));
            }
            if let Some(device) = median(&compared.device) {
                text.push_str(&format!("{}: the device takes {} us\n", step.name, number(device)));
            }
        }
        for failure in &self.failures {
            text.push_str(&format!("failed: {failure}\n"));
        }
        for why in &self.left_out {
            text.push_str(&format!("left out: {why}\n"));
        }
        text
    }

    /// The same with every round, as JSON.
    pub fn to_json(&self) -> Value {
        let runs: Vec<Value> =
            self.steps.iter().map(|(step, compared)| step_json(step, compared)).collect();
        json!({
            "a": self.names[0],
            "b": self.names[1],
            "runs": runs,
            "failed": self.failures,
            "left_out": self.left_out,
        })
    }
}

fn step_json(step: &Step, compared: &Compared) -> Value {
    let figure = |figure: &Figure| {
        let row = compared.row(figure);
        json!({
            "figure": figure.name,
            "unit": row.unit,
            "a": row.a,
            "b": row.b,
            "ratio_of_medians": row.a.zip(row.b).map(|(a, b)| a / b),
            "median_of_ratios": row.ratio,
            "bar": bars::bar_text(figure.bar),
            "reached": row.reached,
        })
    };
    let rounds = |side: Side| -> Value {
        compared.outcomes[side as usize].iter().map(Outcome::to_json).collect()
    };
    json!({
        "run": step.name,
        "work": format!("{:?}", step.work),
        "against": format!("{:?}", step.against),
        "figures": step.figures.iter().map(figure).collect::<Vec<_>>(),
        "ceiling": compared.ceiling,
        "device_us": compared.device,
        "a": rounds(Side::A),
        "b": rounds(Side::B),
    })
}

/// One step as a table of its own.
pub fn step_text(step: &Step, compared: &Compared) -> String {
    let mut table = Table::new(&HEAD.map(|_| ""));
    rows(&mut table, step, compared);
    table.to_text(2)
}

fn rows(table: &mut Table, step: &Step, compared: &Compared) {
    for figure in step.figures {
        let row = compared.row(figure);
        let told = |value: Option<f64>| value.map_or("-".to_owned(), number);
        table.row(vec![
            step.name.to_owned(),
            format!("{}, {}", figure.name, row.unit),
            told(row.a),
            told(row.b),
            told(row.a.zip(row.b).map(|(a, b)| a / b)),
            bars::bar_text(figure.bar),
            row.reached.map_or("", |reached| if reached { "ok" } else { "MISSED" }).to_owned(),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rate: f64) -> Outcome {
        let mut outcome = Outcome::new("x");
        outcome.figure("rate", rate, "msgs/s");
        outcome
    }

    #[test]
    fn medians_ratios_and_verdicts() {
        let step = bars::STEPS.iter().find(|step| step.name == "publish-1k").unwrap();
        let mut compared = Compared::default();
        for (a, b) in [(70.0, 10.0), (10.0, 10.0), (80.0, 11.0)] {
            compared.add(Side::A, vec![outcome(a)]);
            compared.add(Side::B, vec![outcome(b)]);
        }
        let mut report = Report::new("new", "old");
        let text = step_text(step, &compared);
        assert!(text.contains("70.00") && text.contains("ok"), "{text}");
        report.steps.push((step, compared));
        let json = report.to_json();
        let figure = &json["runs"][0]["figures"][0];
        assert_eq!((figure["a"].as_f64(), figure["b"].as_f64()), (Some(70.0), Some(10.0)));
        assert_eq!(figure["median_of_ratios"], 7.0);
        assert_eq!(figure["reached"], true);
        // What was not measured is not judged.
        assert_eq!(json["runs"][0]["figures"][1]["reached"], Value::Null);
        assert!(report.to_text().contains("A: new  B: old"));
    }
}
