use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{UsageRow, db::Db, keys, usage};

/// How many entries one transaction takes at most.
const BATCH: usize = 256;

/// Writes what requests leave behind, so that no request waits for the disk.
///
/// A bounded queue and one task that empties it. What arrives while a transaction commits goes into the next one, so
/// the batches grow with the load and a lone row is written at once.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
    task: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

/// What waits in the queue.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A request ended.
    Usage(Box<UsageRow>),
    /// A key was used.
    KeyUsed {
        /// The key.
        id: String,
        /// When, in Unix milliseconds.
        at_ms: i64,
    },
    /// Somebody waits until everything before this is written.
    Flush(oneshot::Sender<()>),
    /// Nothing after this is taken.
    Stop,
}

impl Recorder {
    /// Starts the task on the current tokio runtime, with room for `capacity` entries (at least one).
    pub(crate) fn start(db: Db, capacity: usize) -> Self {
        // Tokio's channel panics past its own limit; nobody's memory holds that many rows.
        let capacity = capacity.clamp(1, 1 << 24);
        let (queue, entries) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(run(db, entries, dropped.clone()));
        Self { queue, task: Mutex::new(Some(task)), dropped }
    }

    /// Queues an entry, or drops and counts it. Never waits.
    pub(crate) fn record(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything queued before is written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        // Both fail only when the task has ended, and then nothing waits to be written.
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Writes what is queued and ends the task. Entries that come later are dropped and counted.
    pub(crate) async fn close(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return };
        // Fails only when the task has ended.
        let _ = self.queue.send(Entry::Stop).await;
        if let Err(error) = task.await {
            tracing::error!(%error, "the task that writes usage rows failed");
        }
    }

    /// Returns how many entries were lost.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Empties the queue until it is stopped, or every sender is gone.
async fn run(db: Db, mut entries: mpsc::Receiver<Entry>, dropped: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(source) = write(&db, &batch).await {
            let lost = batch.iter().filter(|entry| entry.is_row()).count();
            dropped.fetch_add(lost as u64, Ordering::Relaxed);
            let error = db.error(source);
            tracing::warn!(error = &error as &dyn std::error::Error, lost, "usage rows were not written");
        }
        for entry in batch.drain(..) {
            match entry {
                // Whoever asked may have left.
                Entry::Flush(done) => drop(done.send(())),
                // What is queued already is still received.
                Entry::Stop => entries.close(),
                Entry::Usage(_) | Entry::KeyUsed { .. } => {}
            }
        }
    }
}

/// Writes the rows of a batch, all or none.
async fn write(db: &Db, batch: &[Entry]) -> sqlx::Result<()> {
    if !batch.iter().any(Entry::is_row) {
        return Ok(());
    }
    let mut transaction = db.writer().begin().await?;
    for entry in batch {
        match entry {
            Entry::Usage(row) => usage::insert(&mut transaction, row).await?,
            Entry::KeyUsed { id, at_ms } => keys::update_last_used(&mut transaction, id, *at_ms).await?,
            Entry::Flush(_) | Entry::Stop => {}
        }
    }
    transaction.commit().await
}

impl Entry {
    fn is_row(&self) -> bool {
        match self {
            Self::Usage(_) | Self::KeyUsed { .. } => true,
            Self::Flush(_) | Self::Stop => false,
        }
    }
}
