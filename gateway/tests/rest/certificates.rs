//! Mutual TLS.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    lab::{Lab, free_port},
    support::{
        PATIENCE,
        http::{Reply, parse},
    },
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Certificate and key of a name, in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn put(dir: &Path, (certificate, key): &(String, String)) {
    fs::write(dir.join("g.pem"), certificate).unwrap();
    fs::write(dir.join("g.key"), key).unwrap();
    fs::set_permissions(dir.join("g.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// One request over TLS, with a client's certificate or without; `None` if there was no agreement.
async fn ask(port: u16, authority: &Authority, shown: Option<&(String, String)>) -> Option<Reply> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("gateway.example").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = connecting.await.ok()?;
    let request = b"GET /v1beta/t/profiles HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let talking = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        // With TLS 1.3 a refused certificate is told to whoever reads.
        stream.read_to_end(&mut answer).await.ok()?;
        (!answer.is_empty()).then(|| parse(&answer))
    };
    tokio::time::timeout(PATIENCE, talking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_certificates_of_the_authority_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut lab = Lab::start().await;
    let dir = lab.site.dir().to_owned();
    put(&dir, &authority.issue("gateway.example"));
    fs::write(dir.join("ca.pem"), authority.0.pem()).unwrap();
    let port = free_port();
    let yaml = format!(
        "{{socket: DIR/g.sock, listen: ['127.0.0.1:{port}'],
           certificate: {{certFile: DIR/g.pem, keyFile: DIR/g.key, caFile: DIR/ca.pem}},
           authentication: {{allowCertificates: [backup.example]}}}}"
    );
    lab.gateway(&yaml).await;
    let good = authority.issue("backup.example");
    assert_eq!(
        ask(port, &authority, Some(&good)).await.unwrap().status,
        200
    );
    let other = authority.issue("other.example");
    let refused = ask(port, &authority, Some(&other)).await.unwrap();
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("other.example"),
        "{}",
        refused.text()
    );
    assert_eq!(ask(port, &authority, None).await.unwrap().status, 401);
    let forged = stranger.issue("backup.example");
    assert!(ask(port, &authority, Some(&forged)).await.is_none());
    // Plain HTTP is no way around it.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    // A renewed certificate holds from the next connection on; a broken one changes nothing.
    put(&dir, &authority.issue("gateway.example"));
    assert_eq!(
        ask(port, &authority, Some(&good)).await.unwrap().status,
        200
    );
    fs::write(dir.join("g.pem"), "not a certificate").unwrap();
    assert_eq!(
        ask(port, &authority, Some(&good)).await.unwrap().status,
        200
    );
    lab.stop().await;
}
