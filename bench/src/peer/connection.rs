//! A connection after its handshake. One thread receives, another sends a heartbeat every second. So either side detects a lost
//! connection within seconds, even during a measurement.

use std::io;
use std::marker::PhantomData;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::frame::{self, FrameError, Timed};
use super::message::Message;
use crate::interrupt::Interrupt;

/// Timeouts and intervals of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Interval between heartbeats.
    pub beat: Duration,
    /// Timeout for silence of the peer, and for sending or receiving one message. When it expires, the connection is lost.
    pub silence: Duration,
}

/// The timeouts of both sides. The timeout for silence is long, because a guest of the lab can stall for seconds.
pub const TIMES: Times = Times { beat: Duration::from_secs(1), silence: Duration::from_secs(10) };
/// Interval between checks of the interrupt flag.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Capacity of the queue of received messages. At most one request or response is outstanding. The second entry is for the
/// error that ends the connection.
const UNREAD: usize = 2;

/// Reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed the connection, is silent, or violates the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The protocol does not allow the received message here.
    #[error("unexpected message from the peer")]
    Unexpected,
    /// The connection has ended, and an earlier call returned the error.
    #[error("the connection to the peer is closed")]
    Closed,
    /// A signal arrived on this host.
    #[error("the run was interrupted")]
    Interrupted,
}

/// A connection on which this host sends `Out` and receives `In`.
pub struct Connection<Out: Message, In: Message> {
    shared: Arc<Shared>,
    incoming: Mutex<Receiver<Result<In, ConnectionError>>>,
    /// Dropped to end the thread that sends heartbeats.
    beat: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    _sends: PhantomData<fn(Out)>,
}

struct Shared {
    stream: TcpStream,
    silence: Duration,
    /// Held while a message is sent, so that messages do not interleave.
    sending: Mutex<()>,
    closing: AtomicBool,
}

impl Shared {
    fn send(&self, message: &impl Message) -> Result<(), FrameError> {
        // The mutex protects no data, so a poisoned mutex is harmless.
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut Timed::within(&self.stream, self.silence), message)
    }

    fn listen<In: Message>(&self, received: &SyncSender<Result<In, ConnectionError>>) {
        loop {
            let lost = match frame::read(&mut Timed::within(&self.stream, self.silence)) {
                Ok(message) if In::is_alive(&message) => continue,
                Ok(message) => match received.try_send(Ok(message)) {
                    Ok(()) => continue,
                    Err(_) => ConnectionError::Unexpected,
                },
                Err(error) => error.into(),
            };
            // Fails if the queue is full or the connection is being dropped. The receiving side then finds the queue closed.
            let _ = received.try_send(Err(lost));
            return;
        }
    }
}

impl<Out: Message, In: Message> Connection<Out, In> {
    /// Starts the threads. When the connection is lost, sets the flag of `busy`, which ends a measurement on this host.
    ///
    /// # Errors
    /// Setting the socket option or starting a thread fails.
    pub fn begin(stream: TcpStream, busy: Option<Interrupt>, times: Times) -> io::Result<Self> {
        // Messages are short, and each side waits for the other, so do not delay small packets.
        stream.set_nodelay(true)?;
        let Times { beat: every, silence } = times;
        let (sending, closing) = (Mutex::new(()), AtomicBool::new(false));
        let shared = Arc::new(Shared { stream, silence, sending, closing });
        let (received, incoming) = mpsc::sync_channel(UNREAD);
        let (beat, ended) = mpsc::channel::<()>();
        let incoming = Mutex::new(incoming);
        let mut connection =
            Self { shared: Arc::clone(&shared), incoming, beat: Some(beat), threads: Vec::new(), _sends: PhantomData };
        let listener = Arc::clone(&shared);
        connection.threads.push(thread::Builder::new().name("peer-listen".into()).spawn(move || {
            listener.listen(&received);
            if let Some(busy) = busy.filter(|_| !listener.closing.load(Ordering::Relaxed)) {
                busy.stop();
            }
        })?);
        connection.threads.push(thread::Builder::new().name("peer-alive".into()).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if shared.send(&Out::ALIVE).is_err() {
                    // The receiving thread detects the lost connection as well, and reports it.
                    let _ = shared.stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        })?);
        Ok(connection)
    }

    /// Sends a message to the peer.
    ///
    /// # Errors
    /// The connection is lost, or the message is too long.
    pub fn send(&self, message: &Out) -> Result<(), ConnectionError> {
        Ok(self.shared.send(message)?)
    }

    fn incoming(&self) -> MutexGuard<'_, Receiver<Result<In, ConnectionError>>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next message of the peer.
    ///
    /// # Errors
    /// The connection is lost, or a signal arrived.
    pub fn receive(&self, interrupt: &Interrupt) -> Result<In, ConnectionError> {
        loop {
            if let Some(message) = self.receive_briefly(interrupt)? {
                return Ok(message);
            }
        }
    }

    /// Like [`Connection::receive`], but waits at most 0.1 s. `None` if no message arrived.
    ///
    /// # Errors
    /// Same as [`Connection::receive`].
    pub fn receive_briefly(&self, interrupt: &Interrupt) -> Result<Option<In>, ConnectionError> {
        match self.incoming().recv_timeout(POLL_INTERVAL) {
            Ok(received) => received.map(Some),
            Err(RecvTimeoutError::Disconnected) => Err(ConnectionError::Closed),
            Err(RecvTimeoutError::Timeout) if interrupt.is_signalled() => Err(ConnectionError::Interrupted),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    /// Returns the next message of the peer, or `None` if no message has arrived.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn try_receive(&self) -> Result<Option<In>, ConnectionError> {
        match self.incoming().try_recv() {
            Ok(received) => received.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ConnectionError::Closed),
        }
    }
}

impl<Out: Message, In: Message> Drop for Connection<Out, In> {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.beat.take());
        // The shutdown fails if the peer closed the connection first.
        let _ = self.shared.stream.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            // The panic message was already printed.
            let _ = thread.join();
        }
    }
}
