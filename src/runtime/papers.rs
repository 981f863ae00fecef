//! What a node shows and asks for at its links: its certificate, its key, and the authorities that it believes; TLS 1.3 both ways.
//!
//! Read again when the files change, without a word to standing links: who is refused from then on is who dials anew. Who is there is known
//! by the name in the certificate ([`Warrant`]) and not by the address that it has.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    Error, OtherError, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;

use crate::cli::PaperFiles;
use crate::ids::{NodeId, Roles, is_word};
use crate::limits::{CERTIFICATE_BYTES_MAX, RING_IDS_MAX};
use crate::wire::warrant::{Unwarranted, Warrant};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Names are in warrants: the address that was dialed says nothing, and TLS wants one all the same.
const ANYBODY: &str = "node.campanile";

/// Per node; another one takes its place when the files change.
#[derive(Debug)]
pub(super) struct Papers {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// What our own certificate says.
    warrant: Warrant,
    /// Until when it is valid, in seconds since 1970.
    not_after: u64,
    /// Of the files that it was read from.
    digest: [u8; 32],
}

/// What a node is, so that its certificate can be held against it.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) cell: String,
    pub(super) name: String,
    pub(super) roles: Roles,
}

/// The bytes of the three files.
struct Files([Vec<u8>; 3]);

impl Papers {
    /// Reads the files, and sees that what is in them belongs together and is the bearer's.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn load(files: &PaperFiles, bearer: &Bearer) -> Result<Self, String> {
        Self::of(files, &Files::read(files)?, bearer)
    }

    fn of(files: &PaperFiles, bytes: &Files, bearer: &Bearer) -> Result<Self, String> {
        let [certificate, key, authority] = &bytes.0;
        let fault = |flag: &str, file: &Path, why: &dyn std::fmt::Display| {
            format!("{flag} {}: {why}", file.display())
        };
        let of_certificate = |why: &dyn std::fmt::Display| fault("--tls-cert", &files.cert, why);
        let chain = certificates(certificate).map_err(|why| of_certificate(&why))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|why| fault("--tls-key", &files.key, &format!("no private key: {why}")))?;
        let of_authority = |why: &dyn std::fmt::Display| fault("--tls-ca", &files.ca, why);
        let mut roots = RootCertStore::empty();
        for root in certificates(authority).map_err(|why| of_authority(&why))? {
            roots.add(root).map_err(|why| of_authority(&why))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = Judge::new(roots, &provider, &bearer.cell).map_err(|why| of_authority(&why))?;
        let judge = Arc::new(judge);

        // What others will ask of us, we ask first.
        let now = UnixTime::since_unix_epoch(since_1970());
        judge.server(&chain[0], &chain[1..], now).map_err(|why| of_certificate(&sentence(&why)))?;
        judge
            .verify_client_cert(&chain[0], &chain[1..], now)
            .map_err(|why| of_certificate(&sentence(&why)))?;
        let (warrant, not_after) = read(&chain[0]).map_err(|why| of_certificate(&why))?;
        bearer.holds(&warrant).map_err(|why| of_certificate(&why))?;

        let versions = &[&rustls::version::TLS13];
        let of_key = |why: Error| fault("--tls-key", &files.key, &why);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .and_then(|builder| {
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::clone(&judge) as _)
                    .with_client_auth_cert(chain.clone(), key.clone_key())
            })
            .map_err(of_key)?;
        client.enable_sni = false;
        // Every connection shows its certificate: there is nothing to come back to.
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|builder| {
                builder.with_client_cert_verifier(judge).with_single_cert(chain, key)
            })
            .map_err(of_key)?;
        server.send_tls13_tickets = 0;
        let (client, server, digest) = (Arc::new(client), Arc::new(server), bytes.digest());
        Ok(Self { client, server, warrant, not_after, digest })
    }

    pub(super) fn dial(&self) -> Result<ClientConnection, Error> {
        let anybody = ServerName::try_from(ANYBODY).expect("a name as any");
        ClientConnection::new(Arc::clone(&self.client), anybody)
    }
    pub(super) fn answer(&self) -> Result<ServerConnection, Error> {
        ServerConnection::new(Arc::clone(&self.server))
    }

    /// A node outside of the ring has a number of its own, and its certificate says which.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn fits(&self, files: &PaperFiles, id: NodeId) -> Result<(), String> {
        if id.0 < RING_IDS_MAX || self.warrant.number == Some(id) {
            return Ok(());
        }
        let file = files.cert.display();
        Err(format!("--tls-cert {file}: the certificate does not say number/{}", id.0))
    }

    /// Until our certificate is worth nothing; negative: since then.
    pub(super) fn seconds_left(&self) -> f64 {
        self.not_after as f64 - since_1970().as_secs_f64()
    }
}

impl Bearer {
    /// Whether a certificate says what its bearer does.
    fn holds(&self, warrant: &Warrant) -> Result<(), String> {
        for (what, word) in [("cell", &self.cell), ("name", &self.name)] {
            if !is_word(word) {
                return Err(format!(
                    "no certificate can be of {what} {word:?}: letters, digits, '.', '_' and '-' only"
                ));
            }
        }
        if warrant.name != self.name {
            return Err(format!(
                "the certificate is of node {:?}, and this one is {:?}",
                warrant.name, self.name
            ));
        }
        let lacking = Roles(self.roles.0 & !warrant.roles.0);
        if lacking.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = lacking.iter().map(crate::ids::Role::as_str).collect();
        Err(format!("the certificate does not give this node the role {}", words.join(", ")))
    }
}

impl Files {
    fn read(files: &PaperFiles) -> Result<Self, String> {
        let read = |flag: &str, file: &PathBuf| {
            let fault = |why: &dyn std::fmt::Display| format!("{flag} {}: {why}", file.display());
            let len = std::fs::metadata(file).map_err(|error| fault(&error))?.len();
            if len > CERTIFICATE_BYTES_MAX {
                return Err(fault(&format!("more than {CERTIFICATE_BYTES_MAX} bytes")));
            }
            std::fs::read(file).map_err(|error| fault(&error))
        };
        let PaperFiles { cert, key, ca } = files;
        Ok(Self([read("--tls-cert", cert)?, read("--tls-key", key)?, read("--tls-ca", ca)?]))
    }

    /// So that the key is not kept to know whether it changed.
    fn digest(&self) -> [u8; 32] {
        self.0
            .iter()
            .fold(Sha256::new(), |sum, file| sum.chain_update(Sha256::digest(file)))
            .finalize()
            .into()
    }
}

/// Looks at the files for as long as somebody wants what is in them; SIGHUP looks at once. Files that cannot be used change nothing, and that is
/// said once: not at the first look, as one file is written after another.
pub(super) async fn keep(
    files: PaperFiles,
    bearer: Bearer,
    id: NodeId,
    now: watch::Sender<Arc<Papers>>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let (mut seen, mut told) = (None, None);
    loop {
        let is_asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            _ = hangup.recv() => true,
            () = now.closed() => return,
        };
        let read = Files::read(&files);
        let digest = read.as_ref().map(Files::digest).map_err(Clone::clone);
        if digest == Ok(now.borrow().digest) && !is_asked {
            (seen, told) = (None, None);
            continue;
        }
        let papers = read.and_then(|bytes| {
            let papers = Papers::of(&files, &bytes, &bearer)?;
            papers.fits(&files, id).map(|()| papers)
        });
        match papers {
            Ok(papers) => {
                tracing::info!(seconds_left = papers.seconds_left(), "a certificate was read");
                now.send_replace(Arc::new(papers));
                (seen, told) = (None, None);
            }
            Err(why) => {
                let is_settled = is_asked || seen.as_ref() == Some(&digest);
                seen = Some(digest);
                if is_settled && told.as_ref() != Some(&why) {
                    tracing::error!(%why, "the certificate files cannot be used; the ones before are kept");
                    told = Some(why);
                }
            }
        }
    }
}

/// Believes whoever shows a certificate of one of the authorities that is a node's of the cell.
#[derive(Debug)]
struct Judge {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    cell: String,
}

impl Judge {
    fn new(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
        cell: &str,
    ) -> Result<Self, String> {
        let (roots, provider) = (Arc::new(roots), Arc::clone(provider));
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|why| why.to_string())?;
        Ok(Self { roots, clients, provider, cell: cell.into() })
    }

    fn server(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms)?;
        self.warranted(certificate)
    }

    fn warranted(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let refuse = |why: Unwarranted| CertificateError::Other(OtherError(Arc::new(why)));
        let (warrant, _) = read(certificate).map_err(refuse)?;
        if warrant.cell == self.cell {
            Ok(())
        } else {
            Err(refuse(Unwarranted::Cell(warrant.cell)).into())
        }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.server(certificate, chain, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.clients.verify_client_cert(certificate, chain, now)?;
        self.warranted(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// What a certificate says of its bearer, and until when (seconds since 1970).
pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<(Warrant, u64), Unwarranted> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let Ok((_, parsed)) = parsed else { return Err(Unwarranted::Nobody) };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Err(Unwarranted::Nobody);
    };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok((Warrant::read(uris)?, not_after))
}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|why| format!("no certificate in PEM: {why}"))?;
    if read.is_empty() { Err("no certificate in PEM is in it".into()) } else { Ok(read) }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What TLS says of a peer or of a certificate, in words for the operator.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.to_string(),
        // The latter: another authority of the same name.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "no authority in --tls-ca vouches for its certificate".into(),
        Error::InvalidCertificate(why) => format!("its certificate is refused: {why}"),
        Error::NoCertificatesPresented => "it shows no certificate".into(),
        Error::AlertReceived(alert) => format!("it refuses this node (TLS alert {alert:?})"),
        other => format!("no handshake of TLS 1.3: {other}"),
    }
}
