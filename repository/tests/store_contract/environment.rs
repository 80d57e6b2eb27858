//! The conventions that users of the AWS command line know. The environment belongs to a process, so each case runs
//! this test binary once more with another one and lets it say what it found there.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Output,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use stockpot_repository::store::{ObjectStore, PutMode, S3Store, s3::S3Config};
use stockpot_test_fixtures::{
    s3::{Credentials, Server},
    tls::TestCa,
};

use super::bed::BUCKET;

const CHILD: &str = "STOCKPOT_STORE_TEST_CHILD";
/// The profile that the child is asked to use, as by an option of a command line.
const PROFILE: &str = "STOCKPOT_STORE_TEST_PROFILE";

/// The other side: writes an object with nothing but a URL and what the environment says.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the child, told by its environment"
)]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut config = S3Config::from_url(&format!("s3://{BUCKET}/child")).unwrap();
    config.profile = std::env::var(PROFILE).ok();
    let result = match S3Store::connect(config).await {
        Ok(store) => {
            store
                .put("written", Bytes::from_static(b"x"), PutMode::IfAbsent)
                .await
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => println!("WRITTEN"),
        Err(error) => println!("FAILED {error:?}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test runs itself with another environment"
)]
fn run_child(home: &Path, environment: &[(&str, &str)]) -> String {
    let Output { stdout, stderr, .. } =
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store_contract::environment::child",
                "--nocapture",
            ])
            .env_clear()
            .env(CHILD, "1")
            .env("HOME", home)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(environment.iter().copied())
            .output()
            .unwrap();
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

async fn child_says(home: &Path, environment: &[(&str, &str)]) -> String {
    let home = home.to_owned();
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    tokio::task::spawn_blocking(move || {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        run_child(&home, &environment)
    })
    .await
    .unwrap()
}

fn is_written(server: &Server) -> bool {
    server.remove_object(BUCKET, "child/written")
}

#[tokio::test]
async fn keys_endpoint_and_ca_from_the_environment() {
    let server = Server::builder()
        .bucket(BUCKET)
        .tls(TestCa::new().unwrap())
        .start()
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let ca = server.ca().unwrap().write_certificate(home.path()).unwrap();
    let endpoint = server.endpoint();
    let mut environment = vec![
        (
            "AWS_ACCESS_KEY_ID",
            server.credentials().access_key.as_str(),
        ),
        (
            "AWS_SECRET_ACCESS_KEY",
            server.credentials().secret_key.expose_secret(),
        ),
        ("AWS_REGION", "eu-north-1"),
        ("AWS_CA_BUNDLE", ca.to_str().unwrap()),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_S3", &endpoint),
    ];
    let said = child_says(home.path(), &environment).await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");

    // The general endpoint counts where there is none for S3 alone.
    environment.truncate(4);
    environment.push(("AWS_ENDPOINT_URL", &endpoint));
    let said = child_says(home.path(), &environment).await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");
}

#[tokio::test]
async fn a_profile_with_a_credential_process() {
    let server = Server::builder().bucket(BUCKET).start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let keys = server.credentials();
    let answer = home.path().join("answer.json");
    let json = format!(
        r#"{{"Version":1,"AccessKeyId":"{}","SecretAccessKey":"{}"}}"#,
        keys.access_key,
        keys.secret_key.expose_secret()
    );
    std::fs::write(&answer, json).unwrap();
    let config = home.path().join("config");
    let text = format!(
        "[profile backups]\nregion = eu-north-1\nendpoint_url = {}\ncredential_process = /bin/cat {}\n",
        server.endpoint(),
        answer.display()
    );
    std::fs::write(&config, text).unwrap();
    let environment = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_PROFILE", "backups"),
        ("PATH", "/usr/bin:/bin"),
    ];
    let said = child_says(home.path(), &environment).await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");
}

/// A profile that was asked for is meant; one of the environment is a part of the usual chain, where keys go first.
#[tokio::test]
async fn a_profile_that_is_given_goes_before_keys_of_the_environment() {
    let server = Server::builder().bucket(BUCKET).start().unwrap();
    let (right, wrong) = (server.credentials().clone(), Credentials::random());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    let section = |name: &str, keys: &Credentials| {
        format!(
            "[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.access_key,
            keys.secret_key.expose_secret()
        )
    };
    let text = section("right", &right) + &section("wrong", &wrong);
    std::fs::write(&file, text).unwrap();
    let endpoint = server.endpoint();
    let says = async |keys: &Credentials, variable: &str, profile: &str| {
        let environment = [
            ("AWS_ACCESS_KEY_ID", keys.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key.expose_secret()),
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &endpoint),
            (variable, profile),
        ];
        child_says(home.path(), &environment).await
    };
    let said = says(&wrong, PROFILE, "right").await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");
    let said = says(&right, PROFILE, "wrong").await;
    assert!(said.contains("FAILED Credentials"), "{said}");
    let said = says(&right, PROFILE, "missing").await;
    assert!(said.contains("FAILED Credentials"), "{said}");
    let said = says(&right, "AWS_PROFILE", "wrong").await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");
}

#[tokio::test]
async fn web_identity() {
    let temporary = Credentials::random_temporary();
    let server = Server::builder()
        .bucket(BUCKET)
        .credentials(temporary)
        .start()
        .unwrap();
    let sts = TokenService::start(server.credentials());
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "the-web-identity-token").unwrap();
    let (endpoint, sts_endpoint) = (server.endpoint(), format!("http://{}", sts.address));
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_S3", &endpoint),
        ("AWS_ENDPOINT_URL_STS", &sts_endpoint),
    ];
    let said = child_says(home.path(), &environment).await;
    assert!(said.contains("WRITTEN") && is_written(&server), "{said}");
    let asked = sts.asked.lock().unwrap().join("\n");
    assert!(asked.contains("AssumeRoleWithWebIdentity"), "{asked}");
    assert!(asked.contains("the-web-identity-token"), "{asked}");
}

#[tokio::test]
async fn no_credentials_anywhere() {
    let server = Server::builder().bucket(BUCKET).start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let endpoint = server.endpoint();
    let said = child_says(home.path(), &[("AWS_ENDPOINT_URL", &endpoint)]).await;
    assert!(said.contains("FAILED Credentials"), "{said}");
    assert_eq!(server.journal().total(), 0);
}

/// As much of AWS's token service as a web identity needs: one answer, whatever is asked.
struct TokenService {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenService {
    fn start(credentials: &Credentials) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
             <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
            credentials.access_key,
            credentials.secret_key.expose_secret(),
            credentials.session_token.as_ref().unwrap().expose_secret(),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = vec![0; 16 * 1024];
                let mut length = 0;
                // The body follows the head, maybe in another packet; it ends with the token.
                while let Ok(read) = stream.read(&mut request[length..]) {
                    length += read;
                    let text = String::from_utf8_lossy(&request[..length]);
                    if read == 0 || text.contains("the-web-identity-token") {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                seen.lock().unwrap().push(text);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, asked }
    }
}
