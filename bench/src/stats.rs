//! Latency histograms and medians.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies in nanoseconds, three significant digits, up to ten minutes.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

const LONGEST: u64 = 600 * 1_000_000_000;

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds are valid"))
    }

    /// Records one latency.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency at a quantile, in microseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The usual percentiles, or `None` when nothing was recorded.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (self.count() > 0).then(|| Percentiles {
            count: self.count(),
            min_us: self.0.min() as f64 / 1e3,
            mean_us: self.0.mean() / 1e3,
            p50_us: self.at(0.50),
            p90_us: self.at(0.90),
            p99_us: self.at(0.99),
            p999_us: self.at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        })
    }
}

/// A histogram's summary, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// The median; of an even number the mean of the middle two. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_histograms_are_the_histogram_of_everything() {
        let (mut low, mut high, mut both) = (Latencies::new(), Latencies::new(), Latencies::new());
        for value in 1..=1000 {
            low.record(value * 1000);
            both.record(value * 1000);
        }
        for value in 1001..=2000 {
            high.record(value * 1000);
            both.record(value * 1000);
        }
        low.merge(&high);
        assert_eq!(low.percentiles(), both.percentiles());
        let percentiles = low.percentiles().unwrap();
        assert_eq!(percentiles.count, 2000);
        assert!((percentiles.p50_us - 1000.0).abs() <= 1.0, "{percentiles:?}");
        assert!((percentiles.p99_us - 1980.0).abs() <= 2.0, "{percentiles:?}");
        assert!((percentiles.max_us - 2000.0).abs() <= 2.0, "{percentiles:?}");
    }

    #[test]
    fn nothing_has_no_percentiles_and_zero_counts() {
        assert_eq!(Latencies::new().percentiles(), None);
        let mut one = Latencies::new();
        one.record(0);
        one.record(u64::MAX);
        assert_eq!(one.count(), 2);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
