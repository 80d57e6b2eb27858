//! Object Lock by a profile, on servers that others wrote (`STOCKPOT_TEST_S3`): what was deleted and overwritten comes back.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use aws_sdk_s3::{Client as S3, primitives::ByteStream};
use secrecy::ExposeSecret;
use stockpot_manager::{Parts, cloud::S3Stores};
use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::s3::real::{Kind, RealServer, requested};
use tonic::Code;

use super::{World, filled_volume};
use crate::lab::{self, Client, Run};

const BUCKET: &str = "locked";

/// A world whose bucket is on a real server.
struct Vault {
    world: World,
    s3: S3,
    _server: RealServer,
}

impl Vault {
    /// `None` where the server was not asked for.
    fn new(kind: Kind) -> Option<Self> {
        if !requested().unwrap().contains(&kind) {
            eprintln!("not run: STOCKPOT_TEST_S3 does not name {}", kind.name());
            return None;
        }
        let server = RealServer::start(kind).unwrap_or_else(|e| panic!("{}: {e}", kind.name()));
        let keys = server.credentials();
        let (id, secret) = (&keys.access_key, keys.secret_key.expose_secret());
        let world = World::new();
        let file = |name: &str, content: &[u8]| {
            let path = world.dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        file("credentials", text.as_bytes());
        file("key", &[42; 32]);
        let topology = format!(
            "{{bucket: {BUCKET}, prefix: site, endpoint: '{}', region: us-east-1, credentials: {{file: credentials}},
               key: {{file: key}}, lock: {{days: 2}}}}",
            server.endpoint()
        );
        lab::write_profile(world.dir.path(), "locked", &topology);
        // Another one that leads nowhere: it is no reason not to find the first.
        let nowhere = "{bucket: elsewhere, endpoint: 'http://127.0.0.1:1', region: us-east-1, credentials: {file: nowhere}}";
        lab::write_profile(world.dir.path(), "offsite", nowhere);
        Some(Self {
            world,
            s3: server.client(),
            _server: server,
        })
    }

    fn start(&self) -> Run {
        let parts = Parts {
            stores: Arc::new(S3Stores::default()),
            ..self.world.parts()
        };
        Run::start(self.world.config(), parts)
    }

    async fn make_bucket(&self, can_lock: bool) {
        let make = self.s3.create_bucket().bucket(BUCKET);
        make.object_lock_enabled_for_bucket(can_lock)
            .send()
            .await
            .unwrap();
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let list = self.s3.list_objects_v2().bucket(BUCKET);
        let page = list.prefix(format!("site/{prefix}")).send().await.unwrap();
        let keys = page
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned());
        keys.collect()
    }

    async fn overwrite(&self, prefix: &str) {
        for key in self.keys(prefix).await {
            let put = self.s3.put_object().bucket(BUCKET).key(&key);
            let body = ByteStream::from_static(b"give me a thousand coins");
            put.body(body).send().await.unwrap();
        }
    }

    async fn delete(&self, prefix: &str) {
        for key in self.keys(prefix).await {
            let delete = self.s3.delete_object().bucket(BUCKET);
            delete.key(&key).send().await.unwrap();
        }
    }

    /// Tries to delete every version for good.
    async fn delete_versions(&self) {
        let list = self.s3.list_object_versions().bucket(BUCKET);
        let found = list.send().await.unwrap();
        for version in found.versions() {
            let delete = self.s3.delete_object().bucket(BUCKET);
            let delete = delete.key(version.key().unwrap());
            // What is locked refuses.
            let _ = delete
                .version_id(version.version_id().unwrap())
                .send()
                .await;
        }
    }

    /// Makes a volume of the cloud copy, and looks at it.
    async fn comes_back(&self, client: &mut Client, name: &str, snapshot: &str) {
        let request = lab::volume_from(name, snapshot, api::SourceCopy::Cloud);
        let back = lab::available_volume(client, &request).await.unwrap();
        self.world.assert_content(&back.volume_id);
    }
}

fn a_thief_gets_nothing(kind: Kind) {
    let Some(vault) = Vault::new(kind) else {
        return;
    };
    let run = vault.start();
    let mut client = run.client();
    let snapshot = run.block_on(async {
        vault.make_bucket(true).await;
        let volume = filled_volume(&vault.world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "locked");
        let id = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap()
            .snapshot_id;
        vault.delete_versions().await;
        vault.comes_back(&mut client, "untouched", &id).await;
        // The record is there, the data is not.
        vault.overwrite("packs/").await;
        vault.comes_back(&mut client, "data-overwritten", &id).await;
        vault.delete("packs/").await;
        vault.comes_back(&mut client, "data-deleted", &id).await;
        vault.overwrite("").await;
        vault.delete("snapshots/").await;
        vault.comes_back(&mut client, "all-overwritten", &id).await;
        id
    });
    run.stop();
    // Another manager, which knows nothing of before, and a bucket in which nothing is to be seen.
    vault.world.forget_catalog();
    let run = vault.start();
    let mut client = run.client();
    run.block_on(async {
        vault.delete("").await;
        vault
            .comes_back(&mut client, "all-deleted", &snapshot)
            .await;
    });
    run.stop();
}

#[test]
fn a_thief_gets_nothing_on_versitygw() {
    a_thief_gets_nothing(Kind::Versitygw);
}

#[test]
fn a_thief_gets_nothing_on_minio() {
    a_thief_gets_nothing(Kind::Minio);
}

#[test]
fn a_bucket_that_cannot_lock_is_refused_before_anything_is_written() {
    for kind in Kind::ALL {
        let Some(vault) = Vault::new(kind) else {
            continue;
        };
        let run = vault.start();
        let mut client = run.client();
        run.block_on(async {
            vault.make_bucket(false).await;
            let volume = filled_volume(&vault.world, &mut client).await.volume_id;
            let request = lab::snapshot_of(&volume, "s", "locked");
            let refused = lab::ready_snapshot(&mut client, &request)
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains("Object Lock"), "{refused}");
            assert_eq!(vault.keys("").await, [] as [String; 0]);
        });
        run.stop();
    }
}
