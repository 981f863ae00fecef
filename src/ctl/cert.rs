//! An authority of a cell, and certificates of its nodes, for an operator who has none at hand: `campanile ctl cert`.
//!
//! Nothing is ever overwritten, and keys are for their owner's eyes only.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

use crate::ids::{NodeId, Roles, is_word};
use crate::limits::RING_IDS_MAX;
use crate::wire::warrant::{Warrant, roles_of};

#[derive(Subcommand, Clone, Debug)]
pub enum CertArguments {
    /// An authority: DIR/ca.crt goes to every node, DIR/ca.key to none
    Ca {
        dir: PathBuf,
        /// How long it is valid
        #[arg(long, default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// A node's certificate of the authority in DIR: DIR/NAME.crt and DIR/NAME.key
    Node {
        dir: PathBuf,
        /// What it is called: its --name
        #[arg(long, value_parser = word)]
        name: String,
        /// The roles that it may have: gateway, channel, presence, webapp, admin, ring, several with commas
        #[arg(long, value_delimiter = ',', required = true, value_parser = role)]
        roles: Vec<Roles>,
        /// The number of a node that owns nothing: its --id
        #[arg(long, value_parser = clap::value_parser!(u16).range(i64::from(RING_IDS_MAX)..))]
        id: Option<u16>,
        /// How long it is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
}

/// Clocks of hosts differ, so that a certificate begins a little before it is made.
const EARLIER: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Writes what was asked for: a sentence that says what.
///
/// # Errors
/// A sentence: what was not done, and why.
pub(super) fn run(cell: &str, asked: &CertArguments) -> Result<String, String> {
    match asked {
        CertArguments::Ca { dir, days } => authority(cell, dir, *days),
        CertArguments::Node { dir, name, roles, id, days } => {
            let roles = roles.iter().fold(Roles::NONE, |all, role| Roles(all.0 | role.0));
            let number = id.map(NodeId);
            let warrant = Warrant { cell: cell.into(), name: name.clone(), roles, number };
            node(&warrant, dir, *days)
        }
    }
}

fn authority(cell: &str, dir: &Path, days: u32) -> Result<String, String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let key = KeyPair::generate().map_err(|why| why.to_string())?;
    // Whoever follows another with the same cell has a name of its own.
    let mark = u32::from_be_bytes(*Sha256::digest(key.public_key_raw()).first_chunk().expect("32"));
    let mut asked = parameters(&format!("campanile {cell} authority {mark:08x}"), days)?;
    asked.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    asked.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = asked.self_signed(&key).map_err(|why| why.to_string())?;
    write_both(dir, "ca", &made.pem(), &key)
}

fn node(warrant: &Warrant, dir: &Path, days: u32) -> Result<String, String> {
    if !is_word(&warrant.cell) {
        return Err(format!(
            "--cell {:?}: a certificate's cell has letters, digits, '.', '_' and '-' only",
            warrant.cell
        ));
    }
    let issuer = issuer(dir)?;
    let key = KeyPair::generate().map_err(|why| why.to_string())?;
    let mut asked = parameters(&warrant.name, days)?;
    asked.is_ca = IsCa::ExplicitNoCa;
    asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    asked.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    asked.use_authority_key_identifier_extension = true;
    for uri in warrant.uris() {
        let uri = Ia5String::try_from(uri).map_err(|why| why.to_string())?;
        asked.subject_alt_names.push(SanType::URI(uri));
    }
    let made = asked.signed_by(&key, &issuer).map_err(|why| why.to_string())?;
    let told = write_both(dir, &warrant.name, &made.pem(), &key)?;
    Ok(format!("{told}\n{}", warrant.uris().join("\n")))
}

/// The authority of a directory.
fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let read = |file: &Path| {
        let hint = format!("`campanile ctl cert ca {}` makes an authority", dir.display());
        std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}; {hint}", file.display()))
    };
    let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let (pem, key_pem) = (read(&certificate)?, read(&key)?);
    let key = KeyPair::from_pem(&key_pem).map_err(|why| format!("{}: {why}", key.display()))?;
    Issuer::from_ca_cert_pem(&pem, key).map_err(|why| format!("{}: {why}", certificate.display()))
}

/// What every certificate has: a name for people, and the days on which it is valid.
fn parameters(name: &str, days: u32) -> Result<CertificateParams, String> {
    let mut parameters = CertificateParams::new(Vec::new()).map_err(|why| why.to_string())?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + now.saturating_sub(EARLIER);
    parameters.not_after = epoch + (now + DAY * days);
    Ok(parameters)
}

/// Both files or none: a sentence that names them.
fn write_both(dir: &Path, name: &str, pem: &str, key: &KeyPair) -> Result<String, String> {
    let (of_certificate, of_key) =
        (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let key_file = create(&of_key, 0o600)?;
    let certificate_file = create(&of_certificate, 0o644).inspect_err(|_| {
        let _ = std::fs::remove_file(&of_key);
    })?;
    write(&of_key, key_file, &key.serialize_pem())?;
    write(&of_certificate, certificate_file, pem)?;
    Ok(format!("{}\n{}", of_certificate.display(), of_key.display()))
}

fn create(path: &Path, mode: u32) -> Result<File, String> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
        let path = path.display();
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{path} is there already, and nothing was written: move it away first")
            }
            _ => format!("{path}: {error}"),
        }
    })
}

fn write(path: &Path, mut file: File, text: &str) -> Result<(), String> {
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn role(word: &str) -> Result<Roles, String> {
    roles_of(word)
        .ok_or_else(|| "not gateway, channel, presence, webapp, admin or ring".to_string())
}

fn word(name: &str) -> Result<String, String> {
    if !is_word(name) || name == "ca" {
        return Err("letters, digits, '.', '_' and '-', and not ca".into());
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn asked(name: &str) -> CertArguments {
        CertArguments::Node {
            dir: PathBuf::new(),
            name: name.into(),
            roles: ["channel", "presence"].into_iter().filter_map(roles_of).collect(),
            id: None,
            days: 1,
        }
    }

    fn in_dir(asked: CertArguments, to: &Path) -> CertArguments {
        match asked {
            CertArguments::Ca { days, .. } => CertArguments::Ca { dir: to.into(), days },
            CertArguments::Node { name, roles, id, days, .. } => {
                CertArguments::Node { dir: to.into(), name, roles, id, days }
            }
        }
    }

    #[test]
    fn an_authority_and_its_nodes_are_made_once_and_keys_are_for_their_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("new");
        let ca = CertArguments::Ca { dir: to.clone(), days: 1 };
        let none = run("main", &in_dir(asked("cs1"), &to)).expect_err("no authority yet");
        assert!(none.contains("ctl cert ca"), "{none}");
        run("main", &ca).expect("an authority");
        let told = run("main", &in_dir(asked("cs1"), &to)).expect("a node");
        assert!(told.ends_with("campanile://main/cs1/channel\ncampanile://main/cs1/presence"));
        for key in ["ca.key", "cs1.key"] {
            let mode = std::fs::metadata(to.join(key)).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let before = std::fs::read(to.join("cs1.key")).expect("a key");
        for again in [ca, in_dir(asked("cs1"), &to)] {
            let why = run("main", &again).expect_err("there already");
            assert!(why.contains("there already"), "{why}");
        }
        // One of two is there: the other is not made.
        std::fs::remove_file(to.join("cs1.key")).expect("removed");
        run("main", &in_dir(asked("cs1"), &to)).expect_err("the certificate is there");
        assert!(!to.join("cs1.key").exists());
        assert!(!before.is_empty());
    }

    #[test]
    fn names_that_no_certificate_can_have_are_refused() {
        for name in ["", "ca", "a/b", "a b", "ä"] {
            assert!(word(name).is_err(), "{name:?}");
        }
        assert!(role("oracle").is_err());
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path();
        run("a b", &CertArguments::Ca { dir: to.into(), days: 1 }).expect("any name of a cell");
        let why = run("a b", &in_dir(asked("cs1"), to)).expect_err("no such cell");
        assert!(why.starts_with("--cell"), "{why}");
    }
}
