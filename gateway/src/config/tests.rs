//! What may be said, and what is refused.

use super::*;

fn parse(text: &str) -> Result<GatewayConfig, String> {
    let mut config: GatewayConfig =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    config.manager_socket = PathBuf::from("/run/m.sock");
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn what_works() {
    let config = parse(
        "{socket: /run/g.sock, socketMode: group, listen: ['10.0.0.5:8776', '[::1]:8776'],
          certificate: {certFile: /c, keyFile: /k, caFile: /a},
          authentication: {tokensFile: /t, allowCertificates: [op], allowWithoutAuthentication: [127.0.0.0/8]},
          limits: {requestsPerSecondMax: 5}}",
    )
    .unwrap();
    assert_eq!(config.socket_mode.bits(), 0o660);
    assert_eq!(config.limits.requests_per_second_max, 5);
    assert_eq!(config.limits.body_size_bytes_max, 1 << 20);
    assert!(!config.tokens_travel_in_clear());
    assert_eq!(
        parse("socket: /run/g.sock").unwrap().socket_mode.bits(),
        0o600
    );
    let clear = "{listen: ['10.0.0.5:80'], authentication: {tokensFile: /t}}";
    assert!(parse(clear).unwrap().tokens_travel_in_clear());
    let here = "{listen: ['127.0.0.1:80'], authentication: {tokensFile: /t}}";
    assert!(!parse(here).unwrap().tokens_travel_in_clear());
}

#[test]
fn nobody_is_let_in_by_mistake() {
    for (text, named) in [
        ("{}", "socket"),
        ("listen: ['127.0.0.1:80']", "allowWithoutAuthentication"),
        ("listen: ['0.0.0.0:80']", "tokensFile"),
        (
            "{listen: ['0.0.0.0:80'], certificate: {certFile: /c, keyFile: /k}}",
            "tokensFile",
        ),
        (
            "{listen: ['0.0.0.0:80'], certificate: {certFile: /c, keyFile: /k, caFile: /a}}",
            "allowCertificates",
        ),
        (
            "{listen: ['0.0.0.0:80'], authentication: {allowCertificates: [a]}}",
            "caFile",
        ),
        (
            "{listen: ['0.0.0.0:80'], authentication: {tokens: [secret]}}",
            "tokens",
        ),
        (
            "{listen: ['0.0.0.0:80'], authentication: {tokensFile: t}}",
            "tokensFile",
        ),
        (
            "{listen: ['0.0.0.0:80'], authentication: {allowWithoutAuthentication: [10.0.0.1]}}",
            "ADDRESS/BITS",
        ),
        ("{listen: ['localhost:80']}", "listen"),
        ("socket: g.sock", "absolute"),
        ("socket: /run/m.sock", "manager"),
        (
            "{socket: /g, limits: {requestsAtOnceMax: 0}}",
            "requestsAtOnceMax",
        ),
        (
            "{socket: /g, limits: {requestSecondsMax: 100000}}",
            "requestSecondsMax",
        ),
        ("{socket: /g, socketMode: world}", "world"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(named), "{text}: {error}");
    }
    let long = format!("socket: /{}", "x".repeat(110));
    assert!(parse(&long).unwrap_err().contains("longer"));
}
