//! A manager on storage and buckets that are fakes, and the gateway before it: for programs that try out all that the
//! gateway describes (`make gateway-fuzz`).
//!
//! `on_fakes PORT` serves on 127.0.0.1 until it is killed.

use std::{collections::BTreeMap, fs, sync::Arc};

use stockpot_manager::{
    Manager, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
    serve_manager,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("on_fakes PORT")?.parse()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let home = tempfile::tempdir()?;
    let dir = home.path().display();
    fs::create_dir(home.path().join("data"))?;
    fs::create_dir(home.path().join("profiles"))?;
    fs::write(
        home.path().join("profiles/offsite.yaml"),
        "{name: offsite, snapshotProperties: {topology: {bucket: backups, prefix: a}}}",
    )?;
    let faults = Arc::new(Faults::default());
    let storage = FakeStorage::new(&home.path().join("data"), faults.clone());
    let parts = Parts {
        pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
        connector: Arc::new(FakeHost(storage)),
        stores: FakeStores::new(faults),
    };
    let config = serde_saphyr::from_str(&format!(
        "{{nodeName: node-1, stateDir: {dir}/state, socket: {dir}/m.sock, profilesDir: {dir}/profiles,
           credentialsDir: {dir}, pools: [{{name: pool, driver: file, directory: {dir}/images}}]}}"
    ))?;
    let manager = Manager::open(config, parts).await?;
    let mut gateway: stockpot_gateway::GatewayConfig = serde_saphyr::from_str(&format!(
        "{{listen: ['127.0.0.1:{port}'], authentication: {{allowWithoutAuthentication: [127.0.0.0/8]}},
           limits: {{requestsPerSecondMax: 100000, requestsBurstMax: 1000000, requestSecondsMax: 20}}}}"
    ))?;
    gateway.manager_socket = home.path().join("m.sock");
    let serving = tokio::spawn(serve_manager(manager, std::future::pending()));
    stockpot_gateway::serve(gateway, std::future::pending()).await?;
    serving.await??;
    Ok(())
}
