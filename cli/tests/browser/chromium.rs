//! A headless Chromium, driven through its DevTools protocol: JSON messages, each ended by a zero, over two pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use libtest_mimic::Failed;
use serde_json::{Value, json};

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) dark: bool,
}

const HEIGHT: u32 = 1200;
/// Screenshots of longer pages are cut.
const LONGEST_SHOT: u32 = 12_000;
/// Killed processes end, unless nobody buries them.
const LONGEST_END: Duration = Duration::from_secs(10);

pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    asked: u64,
    /// What it told without being asked.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// The protocol wants the pipes as fds 3 and 4; the shell puts them there.
    pub(crate) fn start(program: &Path) -> Result<Self, Failed> {
        let profile = tempfile::tempdir()?;
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null 2>/dev/null </dev/null"])
            .arg(program)
            // Its sandbox refuses root, and what it opens is ours.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it leaves goes with its profile.
            .env("TMPDIR", profile.path())
            // It has children that outlive it for a moment, and still write.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the pipes are missing".into());
        };
        let from = BufReader::new(from);
        let mut browser = Self { child, to, from, session: None, asked: 0, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}))?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    pub(crate) fn open(&mut self, page: &Path, look: Look) -> Result<(), Failed> {
        let metrics =
            json!({"width": look.width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": look.width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media)?;
        self.call("Page.navigate", &json!({"url": format!("file://{}", page.display())}))?;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive()?;
            self.events.push(event);
        }
        Ok(())
    }

    /// Everything that was to be loaded, whether it could be or not.
    pub(crate) fn asked_for(&mut self) -> Result<Vec<String>, Failed> {
        // Whatever the page still wants, it has asked for by the time that it answers this.
        self.evaluate("new Promise(done => setTimeout(() => done(1), 200))")?;
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        Ok(requests.filter_map(|event| Some(event["params"]["request"]["url"].as_str()?.to_owned())).collect())
    }

    /// Errors of scripts, and what the browser logged.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(complaint).map(|event| event["params"].to_string()).collect()
    }

    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value, Failed> {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked)?;
        if answer.get("exceptionDetails").is_some() {
            return Err(format!("{expression}: {answer}").into());
        }
        Ok(answer["result"]["value"].clone())
    }

    pub(crate) fn screenshot(&mut self, file: &Path) -> Result<(), Failed> {
        let width = self.evaluate("innerWidth")?;
        let height = self.evaluate(&format!("Math.min(document.documentElement.scrollHeight, {LONGEST_SHOT})"))?;
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true, "clip": clip}))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap_or_default())?;
        std::fs::write(file, bytes)?;
        Ok(())
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Failed> {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes())?;
        self.to.write_all(b"\0")?;
        loop {
            let answer = self.receive()?;
            if answer["id"] != self.asked {
                self.events.push(answer);
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(format!("{method}: {error}").into()),
                None => Ok(answer["result"].clone()),
            };
        }
    }

    /// Whether there was anybody left to be told.
    fn tell_group(&self, signal: &str) -> bool {
        // The shell has a `kill` of its own.
        let kill = format!("kill -{signal} -{} 2>/dev/null", self.child.id());
        Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success())
    }

    fn receive(&mut self) -> Result<Value, Failed> {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message)?;
        if message.pop() != Some(0) {
            return Err("the browser ended".into());
        }
        Ok(serde_json::from_slice(&message)?)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted.
        self.tell_group("KILL");
        let _ = self.child.wait();
        let begun = Instant::now();
        // Only then the profile can be removed for good.
        while self.tell_group("0") && begun.elapsed() < LONGEST_END {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
