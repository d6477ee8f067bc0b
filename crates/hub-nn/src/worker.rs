//! A named thread that owns one thing and serves messages about it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use async_channel::{Receiver, Sender, TrySendError};
use tracing::Span;

/// A thread behind a bounded channel.
///
/// Clones share the thread. When the last one is dropped the channel closes, the thread finishes what it has, and the
/// drop waits for it.
#[derive(Debug)]
pub struct Worker<M> {
    // Dropped before the thread is waited for, which ends when the last sender is gone.
    tx: Sender<(Span, M)>,
    thread: Arc<Joiner>,
}

impl<M> Clone for Worker<M> {
    fn clone(&self) -> Self {
        Self { tx: self.tx.clone(), thread: Arc::clone(&self.thread) }
    }
}

/// What a worker's thread takes messages from.
#[derive(Debug)]
pub struct Inbox<M>(Receiver<(Span, M)>);

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The channel is full.
    Full,
    /// The thread has ended.
    Gone,
}

/// What a non-blocking look into an inbox found.
#[derive(Debug)]
pub enum Poll<M> {
    /// A message, with the span of whoever sent it.
    Message(Span, M),
    /// Nothing for now.
    Empty,
    /// Nothing, and nobody is left to send.
    Closed,
}

/// Joins the thread when the last clone of a worker goes.
#[derive(Debug)]
struct Joiner(Mutex<Option<JoinHandle<()>>>);

impl<M: Send + 'static> Worker<M> {
    /// Starts a thread called `name` that runs `body` until it returns.
    ///
    /// The channel holds `capacity` messages. `body` should return once the inbox says [`Poll::Closed`]. A panic in
    /// it ends this thread and nothing else: later messages are refused as [`Refused::Gone`].
    ///
    /// # Errors
    /// The operating system's, if it cannot start a thread.
    pub fn spawn(
        name: &str,
        capacity: usize,
        body: impl FnOnce(Inbox<M>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tx, rx) = async_channel::bounded(capacity.max(1));
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| body(Inbox(rx)))).is_err() {
                tracing::error!("a worker thread panicked; what it owned is gone");
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { tx, thread: Arc::new(Joiner(Mutex::new(Some(thread)))) })
    }

    /// Puts a message into the channel, without waiting.
    ///
    /// # Errors
    /// [`Refused`]; the message is lost.
    pub fn send(&self, message: M) -> Result<(), Refused> {
        self.tx.try_send((Span::current(), message)).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Closed(_) => Refused::Gone,
        })
    }

    /// Tells whether the thread still takes messages.
    pub fn is_alive(&self) -> bool {
        !self.tx.is_closed()
    }
}

impl<M> Inbox<M> {
    /// Waits for the next message; `None` when nobody is left to send one.
    pub fn wait(&self) -> Option<(Span, M)> {
        self.0.recv_blocking().ok()
    }

    /// Takes the next message if there is one.
    pub fn poll(&self) -> Poll<M> {
        match self.0.try_recv() {
            Ok((span, message)) => Poll::Message(span, message),
            Err(async_channel::TryRecvError::Empty) => Poll::Empty,
            Err(async_channel::TryRecvError::Closed) => Poll::Closed,
        }
    }

    /// Returns how many messages wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A worker that drops its own last handle cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic was already reported where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_handle_waits_for_the_thread() {
        let (done_tx, done_rx) = async_channel::bounded(4);
        let worker = Worker::spawn("adder", 4, move |inbox: Inbox<u32>| {
            while let Some((_, number)) = inbox.wait() {
                done_tx.send_blocking(number + 1).unwrap();
            }
        })
        .unwrap();
        let clone = worker.clone();
        worker.send(1).unwrap();
        drop(worker);
        clone.send(2).unwrap();
        drop(clone);
        assert_eq!((done_rx.try_recv(), done_rx.try_recv()), (Ok(2), Ok(3)));
    }

    #[test]
    fn a_full_channel_refuses() {
        let (go_tx, go_rx) = async_channel::bounded::<()>(1);
        let worker = Worker::spawn("sleeper", 1, move |inbox: Inbox<u32>| {
            let _ = go_rx.recv_blocking();
            while inbox.wait().is_some() {}
        })
        .unwrap();
        worker.send(1).unwrap();
        assert_eq!(worker.send(2), Err(Refused::Full));
        go_tx.send_blocking(()).unwrap();
    }

    #[test]
    fn a_panic_ends_only_the_thread() {
        let worker = Worker::spawn("broken", 1, |inbox: Inbox<u32>| {
            inbox.wait();
            panic!("on purpose");
        })
        .unwrap();
        worker.send(1).unwrap();
        while worker.is_alive() {
            std::thread::yield_now();
        }
        assert_eq!(worker.send(2), Err(Refused::Gone));
    }
}
