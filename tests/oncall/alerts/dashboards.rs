//! What the dashboards ask, Prometheus can answer.

use serde_json::Value;

use super::prometheus::Prometheus;

const DASHBOARDS: [&str; 2] = [
    include_str!("../../../deploy/grafana/overview.json"),
    include_str!("../../../deploy/grafana/internals.json"),
];
/// Panels that show something only while something is wrong.
const EMPTY_AT_BEST: [&str; 1] = ["Not flushed while records wait"];

/// Every panel has something to show while commands flow, but for those that show what is wrong.
pub async fn show_data(prometheus: &Prometheus) {
    let mut asked = 0;
    for text in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(text).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().expect("an expression");
                let expression = expression.replace("$__rate_interval", "1m");
                let shown = prometheus.query(&expression).await;
                let is_empty = EMPTY_AT_BEST.contains(&title);
                assert_eq!(
                    shown.is_empty(),
                    is_empty,
                    "{title}: {expression}: {shown:?}"
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 40, "only {asked} queries");
}
