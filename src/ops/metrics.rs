//! Prometheus's text format, from samples.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One value of one metric.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    name: String,
    kind: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Sample {
    /// Goes up and down. A name that ends in `_total` is a counter that a shard keeps itself.
    pub fn gauge(name: &str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        Self { name: format!("campanile_{name}"), kind, labels, value }
    }
    /// Only grows. `name` without `_total`.
    pub fn total(name: &str, labels: Vec<(&'static str, String)>, value: u64) -> Self {
        Self {
            name: format!("campanile_{name}_total"),
            kind: "counter",
            labels,
            value: value as f64,
        }
    }
}

/// All samples of a metric stand together, under its type.
pub fn render(samples: &[Sample]) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_name.entry(&sample.name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in by_name {
        let _ = writeln!(text, "# TYPE {name} {}", samples[0].kind);
        for sample in samples {
            text.push_str(name);
            for (at, (label, value)) in sample.labels.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(text, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
            }
            let end = if sample.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{end} {}", sample.value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_stand_together_under_its_type() {
        let core = |core: &str| vec![("core", core.to_string())];
        let text = render(&[
            Sample::total("deliveries", core("0"), 3),
            Sample::gauge("uptime_seconds", Vec::new(), 1.5),
            Sample::total("deliveries", core("1\""), 4),
        ]);
        assert_eq!(
            text,
            "# TYPE campanile_deliveries_total counter\ncampanile_deliveries_total{core=\"0\"} 3\n\
             campanile_deliveries_total{core=\"1\\\"\"} 4\n# TYPE campanile_uptime_seconds gauge\ncampanile_uptime_seconds 1.5\n"
        );
    }
}
