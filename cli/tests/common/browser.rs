//! A headless Chromium, driven by ChromeDriver's WebDriver protocol.
#![allow(dead_code, reason = "not every test asks everything")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::http;

/// A browser with one page. It ends with the test.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    // Its profile, taken away with it.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; none where it is not installed.
    pub fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // "ChromeDriver was started successfully on port 12345."
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("it says its port");
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            address: ([127, 0, 0, 1], port).into(),
            session: String::new(),
            _profile: profile,
        };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let options = json!({"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", profile]});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let host = self.address.to_string();
        let answer = http::request(self.address, method, path, &[("Host", &host)], &body.to_string())
            .expect("it answers");
        let value: Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.body));
        assert_eq!(answer.status, 200, "{method} {path}: {value}");
        value["value"].clone()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// Goes to a page.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// What a function body of JavaScript gives.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Makes the page's view this large, as a phone's is.
    pub fn view(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// What is said of dark and of paper, as CSS asks for it: `prefers-color-scheme`, `dark`.
    pub fn prefers(&self, name: &str, value: &str) {
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [{"name": name, "value": value}]}));
    }

    /// Prints to PDF: the number of its pages.
    pub fn print(&self) -> usize {
        let pdf = self.post("print", &json!({"page": {"width": 21.0, "height": 29.7}, "shrinkToFit": false}));
        let bytes = decode(pdf.as_str().expect("a PDF"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-"), "no PDF");
        // Pages are objects of their own, which Chromium does not pack.
        text.matches("/Type /Page\n").count() + text.matches("/Type /Page ").count()
    }

    /// What the console has, of errors and warnings: exceptions, refusals by the policy, what could not be loaded.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let bad = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
        log.as_array().into_iter().flatten().filter(bad).map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let host = self.address.to_string();
            let path = format!("/session/{}", self.session);
            let _ = http::request(self.address, "DELETE", &path, &[("Host", &host)], "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Base64 (RFC 4648).
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes
}
