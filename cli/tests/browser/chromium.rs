//! Headless Chromium, driven through the DevTools protocol: JSON messages that end with a zero byte, over two pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use libtest_mimic::Failed;
use serde_json::{Value, json};

/// Width and theme of the browser window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) dark: bool,
}

const HEIGHT: u32 = 1200;
/// Maximum height of a screenshot in pixels. Longer pages are cut.
const MAX_SHOT_HEIGHT: u32 = 12_000;
/// Timeout for the processes of the browser to exit after SIGKILL.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    /// Number of calls so far, which is also the identifier of the last call.
    calls: u64,
    /// Received messages that are not replies to a call.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// The protocol uses file descriptors 3 and 4; the shell moves the pipes there.
    pub(crate) fn start(program: &Path) -> Result<Self, Failed> {
        let profile = tempfile::tempdir()?;
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null 2>/dev/null </dev/null"])
            .arg(program)
            // Chromium's sandbox does not work for root, and the tests open only pages that they wrote.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // Put temporary files into the profile, so that they are removed with it.
            .env("TMPDIR", profile.path())
            // Child processes of the browser keep writing after it exits, so the whole process group is killed.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the pipes are missing".into());
        };
        let from = BufReader::new(from);
        let mut browser = Self { child, to, from, session: None, calls: 0, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}))?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    pub(crate) fn open(&mut self, page: &Path, view: View) -> Result<(), Failed> {
        let metrics =
            json!({"width": view.width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": view.width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if view.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media)?;
        self.call("Page.navigate", &json!({"url": format!("file://{}", page.display())}))?;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive()?;
            self.events.push(event);
        }
        Ok(())
    }

    /// URLs that the page requested, including failed requests.
    pub(crate) fn requested_urls(&mut self) -> Result<Vec<String>, Failed> {
        // The page has sent its requests by the time of this reply.
        self.evaluate("new Promise(done => setTimeout(() => done(1), 200))")?;
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        Ok(requests.filter_map(|event| Some(event["params"]["request"]["url"].as_str()?.to_owned())).collect())
    }

    /// Script errors and messages in the log of the browser.
    pub(crate) fn logged_errors(&self) -> Vec<String> {
        let is_error = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(is_error).map(|event| event["params"].to_string()).collect()
    }

    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value, Failed> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &parameters)?;
        if answer.get("exceptionDetails").is_some() {
            return Err(format!("{expression}: {answer}").into());
        }
        Ok(answer["result"]["value"].clone())
    }

    pub(crate) fn screenshot(&mut self, file: &Path) -> Result<(), Failed> {
        let width = self.evaluate("innerWidth")?;
        let height = self.evaluate(&format!("Math.min(document.documentElement.scrollHeight, {MAX_SHOT_HEIGHT})"))?;
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true, "clip": clip}))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap_or_default())?;
        std::fs::write(file, bytes)?;
        Ok(())
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Failed> {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes())?;
        self.to.write_all(b"\0")?;
        loop {
            let answer = self.receive()?;
            if answer["id"] != self.calls {
                self.events.push(answer);
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(format!("{method}: {error}").into()),
                None => Ok(answer["result"].clone()),
            };
        }
    }

    /// Sends a signal to the process group of the browser. Returns whether the group still had a process.
    fn signal_group(&self, signal: &str) -> bool {
        // `kill` is a shell builtin, so no program is needed.
        let kill = format!("kill -{signal} -{} 2>/dev/null", self.child.id());
        Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success())
    }

    fn receive(&mut self) -> Result<Value, Failed> {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message)?;
        if message.pop() != Some(0) {
            return Err("the browser exited".into());
        }
        Ok(serde_json::from_slice(&message)?)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The browser may have exited already.
        self.signal_group("KILL");
        let _ = self.child.wait();
        let begun = Instant::now();
        // The profile can be removed only after all processes have exited.
        while self.signal_group("0") && begun.elapsed() < EXIT_TIMEOUT {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
