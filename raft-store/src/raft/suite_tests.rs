//! openraft's own conformance suite for storage, on our log and state machine.

use super::TypeConfig;
use super::log_store::LogStore;
use super::machine::{Machine, Published};
use super::snapshot::SnapshotDir;
use crate::log::{SledEngine, Writer, open};
use crate::metrics::Counters;
use model::{ClusterId, NodeId};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

struct Fresh;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Fresh {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId("lab".to_owned());
        let engine = SledEngine::open(&dir.path().join("log")).unwrap();
        let opened = open(Arc::new(engine), dir.path(), &cluster, NodeId(1)).unwrap();
        let counters = Arc::new(Counters::default());
        let base = LogStore::parts(&opened);
        let (_writer, handle) =
            Writer::start(opened, Arc::clone(&counters), Box::new(|e| panic!("{e}"))).unwrap();
        let log = LogStore::new(base, handle, Arc::default());
        let snapshots =
            Arc::new(SnapshotDir::open(dir.path().join("snapshots"), cluster.clone()).unwrap());
        let published = Arc::new(Published::new(counters));
        let machine = Machine::new(cluster, published, snapshots, 0);
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_state_machine_pass_the_conformance_suite_of_openraft() {
    Suite::test_all(Fresh).await.unwrap();
}
