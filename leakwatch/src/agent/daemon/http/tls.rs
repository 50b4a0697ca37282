//! TLS: certificates and keys from PEM files.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// What takes TLS connections with this certificate chain and key.
///
/// # Errors
/// When one of the files cannot be read, or they do not belong together.
pub(super) fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let no_cert = |why: &dyn std::fmt::Display| {
        anyhow::anyhow!("{} is no certificate chain in PEM: {why}", cert.display())
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain: Vec<CertificateDer<'static>> = chain.map_err(|error| no_cert(&error))?;
    anyhow::ensure!(!chain.is_empty(), no_cert(&"there is none in it"));
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow::anyhow!("{} is no private key in PEM: {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set TLS up")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            let (cert, key) = (cert.display(), key.display());
            anyhow::anyhow!("{cert} and {key} cannot be used together: {error}")
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
