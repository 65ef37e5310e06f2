//! Alert rules and dashboards for what is measured, compiled in so that they fit the program.

/// A file, by its path below the folder it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Where it belongs.
    pub path: &'static str,
    /// What it holds.
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(File {
            path: concat!("observability/", $path),
            text: include_str!(concat!("../../packaging/observability/", $path)),
        }),+]
    };
}

/// All of them.
pub const FILES: &[File] = files![
    "alerts/connector_alerts.yml",
    "alerts/connector_alerts_test.yml",
    "alerts/alertmanager.example.yml",
    "alerts/prometheus.example.yml",
    "dashboards/connector_overview.json",
    "dashboards/connector_queues.json",
    "dashboards/connector_keys.json",
    "dashboards/operations.json",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn dashboards_have_names_and_panels_of_their_own() {
        let mut names = BTreeSet::new();
        for file in FILES.iter().filter(|file| file.path.ends_with(".json")) {
            let board: Value = serde_json::from_str(file.text).expect(file.path);
            assert!(
                names.insert(board["uid"].as_str().expect("a uid").to_owned()),
                "{}",
                file.path
            );
            let panels = board["panels"].as_array().expect("panels");
            let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
            assert_eq!(ids.len(), panels.len(), "{}", file.path);
            let titles: BTreeSet<_> = panels.iter().map(|panel| panel["title"].as_str()).collect();
            assert_eq!(titles.len(), panels.len(), "{}", file.path);
        }
        assert!(names.contains("activekg-ops") && names.len() == 4);
    }

    #[test]
    fn every_alert_is_made_to_fire() {
        let text =
            |name: &str| FILES.iter().find(|file| file.path.ends_with(name)).expect("a file").text;
        let (rules, tests) = (text("connector_alerts.yml"), text("connector_alerts_test.yml"));
        let alerts: Vec<&str> =
            rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert!(alerts.len() >= 20);
        for alert in alerts {
            assert!(tests.contains(&format!("  - name: {alert}\n")), "{alert}");
        }
    }
}
