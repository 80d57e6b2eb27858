//! What a configuration may say of other nodes.

use super::*;

const STORAGE: &str = "
nodeName: storage-1
credentialsDir: /etc/x
pools: [{name: fast, driver: lvm-thin, volumeGroup: vg0, thinPool: pool0}]
exports: {iqnPrefix: 'iqn.2026-01.test:storage-1', portals: ['192.0.2.1:3260', '[2001:db8::1]:3260']}
storageNode: {listen: ['192.0.2.1:7420'], allow: [worker-1], pools: [fast]}
certificate: {file: node.pem, keyFile: /keys/node.key, caFile: ca.pem}
";
const WORKER: &str = "
nodeName: worker-1
pools: [{name: far, driver: remote, node: storage-1, address: 'storage-1.example.net:7420', pool: fast}]
certificate: {file: node.pem, keyFile: node.key, caFile: ca.pem}
";

fn parse(text: &str) -> Result<Config, String> {
    let config: Config = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn two_nodes() {
    let storage = parse(STORAGE).unwrap();
    let files = storage.certificate_files().unwrap();
    assert_eq!(files.certificate, Path::new("/etc/x/node.pem"));
    assert_eq!(files.key, Path::new("/keys/node.key"));
    assert_eq!(storage.exports.unwrap().targets().portals.len(), 2);
    let worker = parse(WORKER).unwrap();
    let remote = worker.remote(&worker.pools[0]).unwrap().unwrap();
    assert_eq!(
        (remote.node.as_str(), remote.pool.as_str()),
        ("storage-1", "fast")
    );
    let alone = parse(
        &WORKER
            .replace("storage-1.example.net:7420", "unix:///run/m.sock")
            .replace("certificate:", "# "),
    );
    alone.unwrap();
}

#[test]
fn mistakes_are_named() {
    for (text, change, with, named) in [
        (STORAGE, "certificate:", "# ", "certificate"),
        (STORAGE, "exports:", "# ", "exports"),
        (STORAGE, "allow: [worker-1]", "allow: []", "allow"),
        (STORAGE, "[worker-1]", "[storage-1]", "told apart"),
        (STORAGE, "[worker-1]", "[worker-1, worker-1]", "told apart"),
        (
            STORAGE,
            "listen: ['192.0.2.1:7420']",
            "listen: []",
            "listen",
        ),
        (STORAGE, "pools: [fast]", "pools: [slow]", "slow"),
        (STORAGE, "192.0.2.1:3260", "192.0.2.1", "192.0.2.1:3260"),
        (STORAGE, "iqnPrefix", "iqnprefix", "iqnprefix"),
        (WORKER, "certificate:", "# ", "certificate"),
        (
            WORKER,
            "storage-1.example.net:7420",
            "storage-1",
            "far.address",
        ),
        (WORKER, "node: storage-1", "node: worker-1", "far.node"),
        (WORKER, "pools:", "host: {name: other}\npools:", "host.name"),
    ] {
        let error = parse(&text.replace(change, with)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// Nothing of this needs more than the file to be found.
#[test]
fn what_a_start_would_refuse_is_refused() {
    for (text, change, with, named) in [
        (
            STORAGE,
            "192.0.2.1:3260",
            "0.0.0.0:3260",
            "exports.portals: 0.0.0.0",
        ),
        (
            STORAGE,
            "192.0.2.1:3260",
            "192.0.2.1:0",
            "exports.portals: 192.0.2.1:0",
        ),
        (
            STORAGE,
            "192.0.2.1:3260",
            "224.0.0.1:3260",
            "exports.portals: 224",
        ),
        (
            STORAGE,
            "iqn.2026-01.test:",
            "",
            "exports.iqnPrefix: \"storage-1\"",
        ),
        (STORAGE, "pools: [fast]}", "pools: []}", "storageNode.pools"),
        (
            STORAGE,
            "[worker-1]",
            "[worker_1]",
            "storageNode.allow: \"worker_1\"",
        ),
        (
            STORAGE,
            "192.0.2.1:7420",
            "224.0.0.1:7420",
            "storageNode.listen",
        ),
        (
            WORKER,
            "nodeName: worker-1",
            "nodeName: worker_1",
            "nodeName: \"worker_1\"",
        ),
        (
            WORKER,
            "node: storage-1",
            "node: storage_1",
            "pools.far.node",
        ),
        (WORKER, "pool: fast", "pool: ''", "pools.far.pool"),
    ] {
        let error = parse(&text.replace(change, with)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}
