//! The apalis worker over a queue of this process.

use apalis::prelude::{
    MemorySink, MemoryStorage, MemoryStorageError, Task, TaskBuilder, WorkerBuilder, WorkerBuilderExt, WorkerError,
};
use futures_util::stream::{self, StreamExt};
use futures_util::{SinkExt, sink};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::worker::{Job, JobRun};
use super::{JobKey, KeyedQueue, Taken};

/// Runs the jobs of one kind until `stop`, and then those that still run to their end.
pub(super) async fn work<K: JobKey, R: JobRun<K>>(
    job: &Job<K, R>,
    name: &str,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let runner = job.runner();
    let handler = move |taken: Arc<Taken<K>>| {
        let runner = runner.clone();
        async move {
            runner.run(taken.key().clone()).await;
            drop(taken);
            Ok::<(), std::convert::Infallible>(())
        }
    };
    WorkerBuilder::new(name)
        .backend(storage(job.queue.clone(), stop.clone()))
        .concurrency(job.concurrency)
        .build(handler)
        .run_until(async move {
            stop.cancelled().await;
            Ok::<(), std::io::Error>(())
        })
        .await
}

/// The keyed queue as a stream that apalis reads. Its sink is never used: jobs are pushed into the keyed queue, because
/// the one of `MemoryStorage` may panic when two push at once.
fn storage<K: JobKey>(queue: KeyedQueue<K>, stop: CancellationToken) -> MemoryStorage<Arc<Taken<K>>> {
    let unused = sink::drain().sink_map_err(|never| match never {});
    let boxed: Box<dyn sink::Sink<Task<Arc<Taken<K>>>, Error = MemoryStorageError> + Send + Sync + Unpin> =
        Box::new(unused);
    let sink = MemorySink::new(Arc::new(futures_util::lock::Mutex::new(boxed)));
    let tasks = stream::unfold(queue, |queue| async move {
        let taken = queue.take().await;
        Some((TaskBuilder::new(Arc::new(taken)).build(), queue))
    })
    .take_until(stop.cancelled_owned());
    MemoryStorage::new_with(sink, tasks.boxed())
}
