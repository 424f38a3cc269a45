//! The page that `wirerate report` makes, opened in a headless Chromium: every plot is drawn, every number is that of the result, nothing runs, and it is read on a
//! screen, on a phone and on paper.

#[path = "common/browser.rs"]
mod browser;
mod common;
#[path = "common/http.rs"]
mod http;
#[path = "common/results.rs"]
mod results;

use std::path::Path;

use browser::Browser;
use common::{run, wirerate};
use serde_json::{Value, json};

/// Kinds of plots that are on the page.
fn plots(browser: &Browser) -> Vec<String> {
    // Of each plot: its kind, its marks, its size, and what of it can be seen.
    let script = "return [...document.querySelectorAll('figure.plot')].map(f => {
        const svg = f.querySelector(':scope > svg'), box = svg.getBoundingClientRect();
        const drawn = [...svg.querySelectorAll('path, circle, polyline, g > rect, g > line')].filter(m => {
            const b = m.getBBox(); return b.width > 0 || b.height > 0; });
        return [f.dataset.kind, Number(f.dataset.marks), box.width, box.height, drawn.length, svg.querySelectorAll('text').length]; })";
    let mut kinds = Vec::new();
    for plot in browser.run(script).as_array().expect("a list") {
        let number = |at: usize| plot[at].as_f64().unwrap_or(0.0);
        assert!(number(1) > 0.0 && number(2) > 100.0 && number(3) > 50.0, "empty or too small: {plot}");
        assert!(number(4) > 0.0 && number(5) > 2.0, "nothing is drawn: {plot}");
        kinds.push(plot[0].as_str().unwrap().to_owned());
    }
    kinds
}

/// Compares every number on the page with the result; how many there were.
fn numbers(browser: &Browser, result: &Value) -> usize {
    let cells = browser
        .run("return [...document.querySelectorAll('[data-path]')].map(c => [c.dataset.path, c.dataset.value, c.textContent])");
    let cells = cells.as_array().expect("a list");
    for cell in cells {
        let path = cell[0].as_str().unwrap();
        let there = result.pointer(path).unwrap_or_else(|| panic!("{path} is not in the result"));
        let value: Value = serde_json::from_str(cell[1].as_str().unwrap()).unwrap();
        assert_eq!(&value, there, "{path}");
        // Counts are shown as they are.
        let text = cell[2].as_str().unwrap();
        let counted = ["packets", "lost", "sent", "received", "unique", "unaccounted"];
        if there.is_u64() && counted.iter().any(|name| path.ends_with(&format!("/{name}"))) {
            assert_eq!(text.replace(',', ""), there.to_string(), "{path}");
        }
    }
    cells.len()
}

fn make(directory: &Path, name: &str, result: &Value) -> String {
    let file = directory.join(format!("{name}.json"));
    std::fs::write(&file, result.to_string()).unwrap();
    run(wirerate(&["report", file.to_str().unwrap()])).expect(0, &["written: ", &format!("{name}.html")]);
    format!("file://{}", directory.join(format!("{name}.html")).display())
}

#[test]
fn every_page_is_whole_on_a_screen_on_a_phone_and_on_paper() {
    let Some(browser) = Browser::start() else { return common::skipped("chromium and chromedriver") };
    let directory = tempfile::tempdir().unwrap();
    let doctor = json!({"schema": "wirerate.doctor/1", "findings": [{"code": "x", "severity": "problem", "text": "down"}]});
    let pages: [(&str, Value, &[&str], usize); 6] = [
        // Ten minutes of half-second intervals.
        (
            "recv",
            results::recv(1200),
            &["rate", "packets", "loss", "latency-time", "latency", "gaps", "waterfall", "workers"],
            2000,
        ),
        ("send", results::send(), &["rate", "packets", "loss", "gaps", "waterfall", "workers"], 100),
        (
            "replicate",
            results::replicate(),
            &["throughput", "search", "search", "latency-groups", "join", "leave"],
            60,
        ),
        ("stamp", results::stamp(), &["latency-time", "loss", "latency", "ways", "waterfall"], 60),
        ("compare", results::compare(), &["delivered", "loss"], 25),
        ("doctor", doctor, &[], 3),
    ];
    for (name, result, expected, least) in pages {
        browser.view(1280, 900);
        browser.open(&make(directory.path(), name, &result));
        assert_eq!(plots(&browser), expected, "{name}");
        let count = numbers(&browser, &result);
        assert!(count >= least, "{name}: only {count} numbers");
        // Nothing comes from elsewhere, and nothing runs.
        let foreign = "return document.querySelectorAll('script, iframe, object, embed, img, link[rel=stylesheet]').length
            + performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length";
        assert_eq!(browser.run(foreign), 0, "{name}");
        let colours =
            || browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]");
        let light = colours();
        browser.prefers("prefers-color-scheme", "dark");
        assert_ne!(colours(), light, "{name}: dark is as light");
        browser.prefers("prefers-color-scheme", "light");
        let pages = browser.print();
        assert!(pages > 0, "{name}: nothing is printed");
        browser.view(375, 800);
        let wide = browser
            .run("return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]");
        assert_eq!(wide, json!([375, 375, 375]), "{name}: wider than a phone");
        // Plots are there, and as wide as there is room.
        let narrow = "return [...document.querySelectorAll('figure.plot > svg')].every(s => {
            const b = s.getBoundingClientRect(); return b.left >= 0 && b.right <= 375 && b.width > 300; })";
        assert_eq!(browser.run(narrow), true, "{name}");
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn texts_of_a_result_are_texts_on_the_page() {
    let Some(browser) = Browser::start() else { return common::skipped("chromium and chromedriver") };
    let directory = tempfile::tempdir().unwrap();
    let evil = "</title></style></script><script>window.taken=1</script><img src=x onerror=\"window.taken=1\">'\"&$x^2$\u{202e}\n";
    let mut result = results::recv(3);
    for path in [
        "/command",
        "/config/target",
        "/host/kernel",
        "/host/nic/0/name",
        "/backend/name",
        "/workers/0/why",
        "/warnings/0/text",
        "/warnings/0/fix",
        "/verdict/checks/0/name",
        "/ledger/paths/0/sender",
        "/ledger/paths/0/drops/0/place",
        "/ledger/paths/0/drops/0/interface",
        "/ledger/paths/0/drops/1/reason",
        "/rx/streams/0/source",
        "/verdict/outcome",
        "/started_at",
    ] {
        *result.pointer_mut(path).unwrap() = json!(evil);
    }
    result["<b onclick=alert(1)>"] = json!({"<i>": [{"<u>": evil}]});
    browser.open(&make(directory.path(), "evil", &result));
    assert_eq!(browser.run("return typeof window.taken"), "undefined");
    assert_eq!(browser.run("return document.querySelectorAll('script, img, b[onclick], i, u').length"), 0);
    assert_eq!(browser.run("return document.title.includes('onerror=')"), true, "the title is text");
    let shown =
        browser.run("return document.querySelector('td[data-path=\"/warnings/0/text\"]').textContent");
    assert_eq!(shown, evil, "it is shown as it is");
    assert_eq!(plots(&browser).len(), 8);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn figures_that_cannot_be_are_not_drawn_and_break_nothing() {
    let Some(browser) = Browser::start() else { return common::skipped("chromium and chromedriver") };
    let directory = tempfile::tempdir().unwrap();
    let mut result = results::recv(3);
    result["intervals"][1]["rx"]["pps"] = json!(1e308);
    result["intervals"][2]["rx"]["latency_ns"] = json!({"p50": -5, "p99": "x", "max": 0});
    result["intervals"][0]["end_ns"] = json!(u64::MAX);
    result["workers"][0]["packets"] = json!(u64::MAX);
    result["ledger"]["paths"][0]["received"] = json!(u64::MAX);
    result["ledger"]["paths"][0]["unaccounted"] = json!(i64::MIN);
    result["rx"]["latency_ns"] = json!({"p50": 1e300, "max": 1});
    result["rx"]["lost"] = json!(u64::MAX);
    browser.open(&make(directory.path(), "absurd", &result));
    assert!(!plots(&browser).is_empty());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
