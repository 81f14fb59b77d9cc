//! Chromium, driven over WebDriver (W3C) by a chromedriver of its own.
#![allow(dead_code, reason = "no test uses all of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::lines;

/// What the page may take to do something; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);
/// The browser talks to nobody but the relay.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--window-size=1400,1000",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A running browser with one window; ended when it is dropped.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `hosts` is what it takes other names for, as `--host-resolver-rules` has it.
    pub fn start(hosts: &str) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs: scripts/setup tests installs it");
        let mut said = lines(driver.stdout.take().expect("piped"));
        let line = said.contains("started successfully on port ");
        let port = line.rsplit(' ').next().expect("a port");
        let port = port.trim_end_matches('.');
        let folder = tempfile::tempdir().expect("a folder");
        let mut flags: Vec<_> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--host-resolver-rules={hosts}"));
        let options = json!({
            "args": flags,
            "prefs": { "download.default_directory": folder.path() },
        });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE * 2))
            .build()
            .new_agent();
        let mut browser = Self {
            driver,
            agent,
            session: format!("http://127.0.0.1:{port}/session"),
            folder,
        };
        let session = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
                "browserName": "chrome",
                "acceptInsecureCerts": true,
                "goog:chromeOptions": options,
                "goog:loggingPrefs": { "browser": "ALL" },
                "timeouts": { "script": DEADLINE.as_millis() as u64 },
            } } }),
        );
        let id = session["sessionId"].as_str().expect("a session").to_owned();
        browser.session += &format!("/{id}");
        browser
    }

    /// Where its downloads go.
    pub fn downloads(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the Chrome DevTools Protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, params: &Value) {
        let body = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &body);
    }

    /// Loads a page.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Makes the window that wide and high, in pixels.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let rect = json!({ "x": 0, "y": 0, "width": width, "height": height });
        self.post("/window/rect", &rect);
    }

    /// Opens another tab, and goes on there; the name of the one before.
    #[track_caller]
    pub fn open_tab(&self) -> String {
        let before = self.get("/window");
        let tab = self.post("/window/new", &json!({ "type": "tab" }));
        self.post("/window", &json!({ "handle": tab["handle"] }));
        before.as_str().expect("a name").to_owned()
    }

    /// Goes back to a tab.
    #[track_caller]
    pub fn go_to_tab(&self, name: &str) {
        self.post("/window", &json!({ "handle": name }));
    }

    /// What a script, the body of a function, returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a condition, an expression, is true of the page; what it is then.
    #[track_caller]
    pub fn until(&self, condition: &str) -> Value {
        let script = format!(
            "const [done, condition] = [arguments[0], async () => ({condition})];
             (async function again() {{
                 const value = await condition().catch(() => false);
                 if (value) done(value); else setTimeout(again, 20);
             }})();"
        );
        let body = json!({ "script": script, "args": [] });
        let (ok, value) = self.send("/execute/async", &body);
        assert!(
            ok,
            "never: {condition}\n{}\n{}",
            value["message"].as_str().unwrap_or_default(),
            self.run("return document.documentElement.outerHTML.slice(0, 20000)")
        );
        value
    }

    /// Presses keys, one after the other; `\u{e00c}` and the like are those of WebDriver.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Clicks the first element that a CSS selector finds.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = self.post(
            "/element",
            &json!({ "using": "css selector", "value": selector }),
        );
        let id = found.as_object().and_then(|found| found.values().next());
        let id = id.and_then(Value::as_str).expect("an element");
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// Where a frame with that address in it ends up; it stays.
    #[track_caller]
    pub fn framed(&self, url: &str) -> String {
        let frame = format!(
            "new Promise(done => {{
                 document.querySelectorAll('iframe').forEach(frame => frame.remove());
                 const frame = document.createElement('iframe');
                 frame.onload = () => done(true);
                 frame.src = '{url}';
                 document.body.append(frame);
             }})"
        );
        self.until(&frame);
        self.go_to_frame(Some(0));
        let address = self.run("return location.href");
        self.go_to_frame(None);
        address.as_str().unwrap_or_default().to_owned()
    }

    /// Goes on in a frame of the page, or in the page again.
    #[track_caller]
    pub fn go_to_frame(&self, number: Option<u32>) {
        self.post("/frame", &json!({ "id": number }));
    }

    /// Waits for a file whose name begins so.
    #[track_caller]
    pub fn downloaded(&self, begin: &str) -> PathBuf {
        let find = || {
            let files = std::fs::read_dir(self.folder.path()).expect("a folder");
            files.flatten().map(|file| file.path()).find(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with(begin) && name.ends_with(".jpg"))
            })
        };
        let begun = std::time::Instant::now();
        loop {
            if let Some(path) = find() {
                return path;
            }
            assert!(begun.elapsed() < DEADLINE, "no {begin}….jpg");
            self.run("return 0");
        }
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.session);
        let mut response = self.agent.get(&url).call().expect("chromedriver answers");
        let text = response.body_mut().read_to_string().expect("text");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["value"].take()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let (ok, value) = self.send(path, body);
        assert!(ok, "{path}: {value}");
        value
    }

    #[track_caller]
    fn send(&self, path: &str, body: &Value) -> (bool, Value) {
        let url = format!("{}{path}", self.session);
        let mut response = self
            .agent
            .post(&url)
            .content_type("application/json")
            .send(body.to_string())
            .expect("chromedriver answers");
        let ok = response.status().is_success();
        let text = response.body_mut().read_to_string().expect("text");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        (ok, answer["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
