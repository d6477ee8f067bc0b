//! `hub bench --trace`, as a shell sees it.

use std::fs;

use crate::Hub;

const DAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/traces/mixed-day.jsonl");

#[test]
fn a_trace_is_run_under_every_rule() {
    let hub = Hub::new();
    let told = hub.works(&["bench", "--trace", DAY]);
    assert!(told.starts_with("WHO LEAVES") && told.contains("could not have waited less than"), "{told}");
    let compared = hub.json(&["bench", "--trace", DAY, "--json"]);
    let ratio = |at: usize| compared["rules"][at]["to_least"].as_f64().unwrap();
    assert!(ratio(0) >= 1.0 && ratio(0) < 1.15 && ratio(0) < ratio(1) && ratio(1) < ratio(2), "{compared}");
}

#[test]
fn what_is_no_trace_is_told_by_its_line() {
    let hub = Hub::new();
    let path = hub.home().join("bad.jsonl");
    fs::write(&path, "{\"budget_bytes\": 5, \"models\": []}\n").unwrap();
    hub.fails(
        &["bench", "--trace", path.to_str().unwrap()],
        2,
        "error: line 1 of the trace: a trace has 1 to 64 models",
    );
    hub.fails(&["bench", "--trace", "/nowhere/x"], 2, "error: cannot read /nowhere/x");
}
