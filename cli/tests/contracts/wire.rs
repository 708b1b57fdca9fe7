//! The protocol between two hosts, as `docs/wire.md` describes it: messages, their fields, and the handshake of a client.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::golden;
use crate::program::{code, each, peerpath, text};
use crate::shape::{Shape, nonsense, pointers};

/// Tries to decode a message as each kind, and encodes it again. Only this function uses an internal interface.
fn decoded(bytes: &[u8]) -> Vec<(&'static str, Value)> {
    use peerpath_bench::peer::{frame::read, handshake::Handshake, message::Request, message::Response};
    let handshake =
        read::<Handshake>(&mut &bytes[..]).ok().map(|read| ("handshake", serde_json::to_value(read).unwrap()));
    let request = read::<Request>(&mut &bytes[..]).ok().map(|read| ("request", serde_json::to_value(read).unwrap()));
    let answer = read::<Response>(&mut &bytes[..]).ok().map(|read| ("answer", serde_json::to_value(read).unwrap()));
    [handshake, request, answer].into_iter().flatten().collect()
}

fn framed(message: &Value) -> Vec<u8> {
    let text = message.to_string().into_bytes();
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], &text].concat()
}

/// The seeds of the fuzzer, at least one message of each kind, by file name.
fn seeds() -> BTreeMap<String, Value> {
    let folder = golden::workspace().join("fuzz/seeds/wire");
    let seed = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let (length, text) = bytes.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, text.len(), "{}", path.display());
        (path.file_name().unwrap().to_str().unwrap().to_owned(), serde_json::from_slice(text).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(|entry| seed(&entry.unwrap().path())).collect()
}

fn label(message: &Value) -> &str {
    message.as_str().unwrap_or_else(|| message.as_object().unwrap().keys().next().unwrap())
}

/// Whether `whole` contains all of `part`. Encoding may add a field that the message omits, with its default value.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).map_or(part.is_null(), |whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[test]
fn messages_have_the_golden_labels_and_fields() {
    let mut kinds: BTreeMap<String, Shape> = BTreeMap::new();
    for (name, message) in seeds() {
        let label = label(&message);
        let understood = decoded(&framed(&message));
        assert!(!understood.is_empty(), "{name} is not understood as a message");
        for (kind, again) in understood {
            assert!(holds(&again, &message), "{name} loses something as {kind}: {again}");
            let content = message.get(label).cloned().unwrap_or_default();
            kinds.entry(format!("{kind} {label}")).or_default().add(&content, &[]);
        }
    }
    let mut text = "# Kind and label of each message, and its content.\n".to_owned();
    for (kind, shape) in kinds {
        text += &format!("\n{kind}\n{}", shape.text());
    }
    golden::check("wire.txt", &text);
}

/// Proves that the reader uses every field: it ignores unknown fields, so each field in turn gets a value of an invalid type.
#[test]
fn every_field_of_a_message_is_read() {
    let mut ignored = Vec::new();
    for (name, message) in seeds() {
        for pointer in pointers(&message) {
            let mut altered = message.clone();
            *altered.pointer_mut(&pointer).unwrap() = nonsense();
            if !decoded(&framed(&altered)).is_empty() {
                ignored.push(format!("{name} {pointer}"));
            }
        }
    }
    assert!(ignored.is_empty(), "any value is accepted for: {ignored:#?}\n{}", golden::INSTRUCTION);
}

#[test]
fn every_label_is_documented() {
    let document = std::fs::read_to_string(golden::workspace().join("docs/wire.md")).unwrap();
    for message in seeds().values() {
        let quoted = format!("\"{}\"", label(message));
        assert!(document.contains(&quoted), "docs/wire.md does not mention {quoted}");
    }
}

/// The server's part of the handshake, driven by a test, and the client that connects to it.
struct Server {
    stream: TcpStream,
    client: Child,
    _state: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let token = state.path().join("token");
        std::fs::write(&token, "0123456789abcdef").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = peerpath(&state.path().join("state"))
            .args(["run", "--to", "verbs:none", "--peer", &listener.local_addr().unwrap().to_string()])
            .arg("--out")
            .arg(state.path().join("out"))
            .arg("--token-file")
            .arg(token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        Self { stream, client, _state: state }
    }

    fn send(&mut self, message: &Value) {
        self.stream.write_all(&framed(message)).unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Closes the connection and returns the client's exit code.
    fn exit_code(self) -> i32 {
        drop(self.stream);
        code(&self.client.wait_with_output().unwrap())
    }
}

#[test]
fn a_client_proves_that_it_knows_the_token_in_the_documented_form() {
    let seeds = seeds();
    let mut server = Server::new();
    server.send(&seeds["hello"]);
    let proof = server.receive();
    let mut shape = Shape::default();
    shape.add(&proof, &[]);
    let mut documented = Shape::default();
    documented.add(&seeds["prove"], &[]);
    assert_eq!(shape.text(), documented.text());
    assert_eq!(proof["prove"]["version"], 1);
    for field in ["nonce", "proof"] {
        let bytes = proof["prove"][field].as_str().unwrap();
        assert!(bytes.len() == 44 && bytes.ends_with('='), "{field} is not base64 of 32 bytes: {bytes}");
    }
    server.send(&seeds["refused"]);
    server.exit_code();
}

#[test]
fn a_client_ends_with_the_golden_codes() {
    let seeds = seeds();
    let mut newer = seeds["hello"].clone();
    newer["hello"]["version"] = json!(2);
    let first = |message: Value| move |server: &mut Server| server.send(&message);
    let hello = seeds["hello"].clone();
    let second = |message: Value| {
        let hello = hello.clone();
        move |server: &mut Server| {
            server.send(&hello);
            server.receive();
            server.send(&message);
        }
    };
    type Step = Box<dyn Fn(&mut Server) + Sync>;
    let steps: Vec<(&str, Step)> = vec![
        ("closed at once", Box::new(|_| {})),
        ("no JSON", Box::new(|server| server.stream.write_all(b"\0\0\0\x05nope!").unwrap())),
        ("too long", Box::new(|server| server.stream.write_all(&[0xff; 4]).unwrap())),
        ("refused first", Box::new(first(seeds["refused"].clone()))),
        ("another version", Box::new(first(newer))),
        ("not a hello", Box::new(first(seeds["offer"].clone()))),
        ("refused after the proof", Box::new(second(seeds["refused"].clone()))),
        ("wrong proof", Box::new(second(seeds["welcome"].clone()))),
        ("no proof", Box::new(second(seeds["offer"].clone()))),
    ];
    let lines = each(&steps, |(name, step)| {
        let mut server = Server::new();
        step(&mut server);
        format!("{}  {name}\n", server.exit_code())
    });
    golden::check("wire.exit_codes.txt", &lines.concat());
}

/// `kill` is a shell builtin, so the test needs no other program.
#[test]
fn a_client_that_waits_ends_with_128_and_the_signal() {
    let signals = [("HUP", 129), ("INT", 130), ("TERM", 143)];
    each(&signals, |(signal, expected)| {
        let mut server = Server::new();
        let seeds = seeds();
        server.send(&seeds["hello"]);
        server.receive();
        let pid = server.client.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap().success());
        let output = server.client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(*expected), "{}", text(&output));
    });
}
