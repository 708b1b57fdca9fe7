//! Sends and receives messages, and sends heartbeats (`alive`).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;

const MAX_BYTES: u32 = 1 << 20;

pub struct Channel {
    input: TcpStream,
    output: Arc<Mutex<TcpStream>>,
}

impl Channel {
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Self { output: Arc::new(Mutex::new(stream.try_clone()?)), input: stream })
    }

    pub fn send(&self, message: &Value) -> Result<()> {
        send(&self.output, message)
    }

    /// Receives the next message that is not `alive`; `None` if the peer closed the connection.
    pub fn receive(&mut self) -> Result<Option<Value>> {
        loop {
            let mut length = [0; 4];
            match self.input.read_exact(&mut length) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            let length = u32::from_be_bytes(length);
            if length > MAX_BYTES {
                return Err("cannot receive a message: it is too long".into());
            }
            let mut text = vec![0; length as usize];
            self.input.read_exact(&mut text)?;
            let message: Value = serde_json::from_slice(&text)?;
            if message != "alive" {
                return Ok(Some(message));
            }
        }
    }

    /// Sends `alive` every second until the returned value is dropped.
    pub fn keep_alive(&self) -> Result<Sender<()>> {
        let (alive, ended) = mpsc::channel();
        let output = Arc::clone(&self.output);
        thread::Builder::new().spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                if send(&output, &json!("alive")).is_err() {
                    return;
                }
            }
        })?;
        Ok(alive)
    }
}

fn send(output: &Mutex<TcpStream>, message: &Value) -> Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut bytes = u32::try_from(text.len())?.to_be_bytes().to_vec();
    bytes.extend(text);
    let mut output = output.lock().map_err(|_| "another thread panicked")?;
    Ok(output.write_all(&bytes)?)
}
