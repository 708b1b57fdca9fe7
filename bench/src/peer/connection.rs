//! A conversation with a peer that has proved itself. A thread listens and another says every second that this side lives, so
//! that either side finds out within seconds that the other one is gone, whatever it is busy with.

use std::io;
use std::marker::PhantomData;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::frame::{self, FrameError, Timed};
use super::message::Talk;
use crate::interrupt::Interrupt;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How often each side says that it lives.
    pub beat: Duration,
    /// A peer of which nothing came for so long is gone, and each message has to be there, or gone out, within that time.
    pub silence: Duration,
}

/// What both sides keep to. An emulated machine can stand still for seconds.
pub const TIMES: Times = Times { beat: Duration::from_secs(1), silence: Duration::from_secs(10) };
/// How long a look at the interrupt flag can wait.
const LOOK: Duration = Duration::from_millis(100);
/// One side asks and the other answers, so more than one message is never under way.
const UNREAD: usize = 2;

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The peer went away, or does not keep to the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer does not wait for answers.
    #[error("the peer speaks out of turn")]
    OutOfTurn,
    /// It has been told before what ended the conversation.
    #[error("the conversation with the peer is over")]
    Over,
    /// A signal came here.
    #[error("the run was interrupted")]
    Interrupted,
}

/// A conversation: `Out` is what this side says, `In` what the other one does.
pub struct Connection<Out: Talk, In: Talk> {
    shared: Arc<Shared>,
    incoming: Mutex<Receiver<Result<In, Lost>>>,
    /// Dropped to end the thread that says that we live.
    beat: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    _says: PhantomData<fn(Out)>,
}

struct Shared {
    stream: TcpStream,
    silence: Duration,
    /// Held while a message goes out, so that none is cut in two by another.
    turn: Mutex<()>,
    closing: AtomicBool,
}

impl Shared {
    fn say(&self, message: &impl Talk) -> Result<(), FrameError> {
        // A poisoned turn has no state to be wrong.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut Timed::within(&self.stream, self.silence), message)
    }

    fn listen<In: Talk>(&self, heard: &SyncSender<Result<In, Lost>>) {
        loop {
            let lost = match frame::read(&mut Timed::within(&self.stream, self.silence)) {
                Ok(message) if In::is_alive(&message) => continue,
                Ok(message) => match heard.try_send(Ok(message)) {
                    Ok(()) => continue,
                    Err(_) => Lost::OutOfTurn,
                },
                Err(error) => error.into(),
            };
            // Nobody may be asking any more.
            let _ = heard.try_send(Err(lost));
            return;
        }
    }
}

impl<Out: Talk, In: Talk> Connection<Out, In> {
    /// Begins. `busy` is stopped when the peer is gone: that ends what this side does meanwhile without listening.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn begin(stream: TcpStream, busy: Option<Interrupt>, times: Times) -> io::Result<Self> {
        // Questions and answers are short, and each waits for the other.
        stream.set_nodelay(true)?;
        let Times { beat: every, silence } = times;
        let (turn, closing) = (Mutex::new(()), AtomicBool::new(false));
        let shared = Arc::new(Shared { stream, silence, turn, closing });
        let (heard, incoming) = mpsc::sync_channel(UNREAD);
        let (beat, ended) = mpsc::channel::<()>();
        let incoming = Mutex::new(incoming);
        let mut connection =
            Self { shared: Arc::clone(&shared), incoming, beat: Some(beat), threads: Vec::new(), _says: PhantomData };
        let listener = Arc::clone(&shared);
        connection.threads.push(thread::Builder::new().name("peer-listen".into()).spawn(move || {
            listener.listen(&heard);
            if let Some(busy) = busy.filter(|_| !listener.closing.load(Ordering::Relaxed)) {
                busy.stop();
            }
        })?);
        connection.threads.push(thread::Builder::new().name("peer-alive".into()).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if shared.say(&Out::ALIVE).is_err() {
                    // The listener finds out as well, and tells.
                    let _ = shared.stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        })?);
        Ok(connection)
    }

    /// Says something.
    ///
    /// # Errors
    /// The peer is gone, or it is too long to be said.
    pub fn say(&self, message: &Out) -> Result<(), Lost> {
        Ok(self.shared.say(message)?)
    }

    fn incoming(&self) -> MutexGuard<'_, Receiver<Result<In, Lost>>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what the peer says next.
    ///
    /// # Errors
    /// The peer is gone, or a signal came.
    pub fn hear(&self, interrupt: &Interrupt) -> Result<In, Lost> {
        loop {
            match self.incoming().recv_timeout(LOOK) {
                Ok(heard) => return heard,
                Err(RecvTimeoutError::Disconnected) => return Err(Lost::Over),
                Err(RecvTimeoutError::Timeout) if interrupt.is_signalled() => return Err(Lost::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What the peer said, if it said something.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn heard(&self) -> Result<Option<In>, Lost> {
        match self.incoming().try_recv() {
            Ok(heard) => heard.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Lost::Over),
        }
    }
}

impl<Out: Talk, In: Talk> Drop for Connection<Out, In> {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.beat.take());
        // Where the peer closed first there is nothing left to shut.
        let _ = self.shared.stream.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
