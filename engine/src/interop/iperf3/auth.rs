//! Who may test: user, password and time, encrypted for the server.
//!
//! The token is base64 of an RSA message of `user: NAME`, `pwd:  PASSWORD` and `ts:   SECONDS`, a line each. Padding is OAEP with SHA-1 from 3.17 on, and PKCS #1 v1.5
//! before. The users' file has lines of `name,hash`, where the hash is SHA-256 of `{name}password` in hexadecimal.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey,
    Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::config::{ClientAuthentication, ServerAuthentication};
use super::failure::{Code, Failure};

/// Longest token that is looked at, in characters: that of a key of 8192 bits.
const MAX_TOKEN: usize = 1400;

/// PKCS #8 around a PKCS #1 key, before its length: the identifier of RSA (RFC 5958, RFC 8017).
const RSA_IDENTIFIER: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// What a server checks tokens with.
pub struct Guard {
    key: Key,
    users: Vec<(String, String)>,
    time_skew: Duration,
}

enum Key {
    Oaep(OaepPrivateDecryptingKey),
    Pkcs1(Pkcs1PrivateDecryptingKey),
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Guard {
    /// Reads key and users.
    ///
    /// # Errors
    /// ServerAuthentication, when the key is no RSA key of 2048 to 8192 bits.
    pub fn new(config: &ServerAuthentication) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(Code::ServerAuthentication).detail(why.to_owned());
        let der = pem(&config.private_key, "PRIVATE KEY")
            .or_else(|| pem(&config.private_key, "RSA PRIVATE KEY").map(|key| in_pkcs8(&key)))
            .ok_or_else(|| wrong("the private key is no PEM of an RSA key without a password"))?;
        let key = PrivateDecryptingKey::from_pkcs8(&der)
            .map_err(|_| wrong("the private key is no RSA key of 2048 to 8192 bits"))?;
        let unusable = |_| wrong("the private key cannot be used");
        let key = if config.pkcs1_padding {
            Key::Pkcs1(Pkcs1PrivateDecryptingKey::new(key).map_err(unusable)?)
        } else {
            Key::Oaep(OaepPrivateDecryptingKey::new(key).map_err(unusable)?)
        };
        Ok(Self { key, users: users(&config.users), time_skew: config.time_skew })
    }

    /// The user who may test, by `token` and our time `now`.
    ///
    /// # Errors
    /// Authentication, whatever is wrong: the other end is not told what.
    pub fn check(&self, token: Option<&str>, now: SystemTime) -> Result<String, Failure> {
        let denied = |why: &str| Failure::new(Code::Authentication).detail(why.to_owned());
        let token = token.ok_or_else(|| denied("the client sent no credentials"))?;
        let plain = self.decrypt(token).ok_or_else(|| denied("the credentials cannot be decrypted"))?;
        let (user, password, seconds) =
            read_credentials(&plain).ok_or_else(|| denied("what was decrypted is no credentials"))?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now.abs_diff(seconds) > self.time_skew.as_secs() {
            return Err(denied("the clocks are too far apart, or the credentials are old"));
        }
        let hash = hash(user, password);
        // Every user is looked at, and every byte: how long it takes tells nothing.
        let known = self.users.iter().fold(false, |known, (name, expected)| {
            let same =
                aws_lc_rs::constant_time::verify_slices_are_equal(hash.as_bytes(), expected.as_bytes());
            known | (name == user && same.is_ok())
        });
        if known { Ok(user.to_owned()) } else { Err(denied("wrong user or password")) }
    }

    fn decrypt(&self, token: &str) -> Option<Vec<u8>> {
        let token: String = token.chars().take(MAX_TOKEN + 1).filter(|c| !c.is_ascii_whitespace()).collect();
        if token.len() > MAX_TOKEN {
            return None;
        }
        let cipher = STANDARD.decode(token).ok()?;
        let plain = match &self.key {
            Key::Oaep(key) => {
                let mut room = vec![0; key.min_output_size()];
                key.decrypt(&OAEP_SHA1_MGF1SHA1, &cipher, &mut room, None).ok()?.to_vec()
            }
            Key::Pkcs1(key) => {
                let mut room = vec![0; key.min_output_size()];
                key.decrypt(&cipher, &mut room).ok()?.to_vec()
            }
        };
        Some(plain)
    }
}

/// The token that a client sends at `now`.
///
/// # Errors
/// ClientAuthentication, when the key is none, or name and password are longer than it takes.
pub fn token(config: &ClientAuthentication, now: SystemTime) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::new(Code::ClientAuthentication).detail(why.to_owned());
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let plain = format!("user: {}\npwd:  {}\nts:   {seconds}", config.user, config.password);
    let der = pem(&config.public_key, "PUBLIC KEY")
        .ok_or_else(|| wrong("the public key is no PEM of a public key"))?;
    let key = PublicEncryptingKey::from_der(&der)
        .map_err(|_| wrong("the public key is no RSA key of 2048 to 8192 bits"))?;
    let unusable = |_| wrong("the public key cannot be used");
    let too_long = |_| wrong("name and password are too long for the key");
    let cipher = if config.pkcs1_padding {
        let key = Pkcs1PublicEncryptingKey::new(key).map_err(unusable)?;
        let mut room = vec![0; key.ciphertext_size()];
        key.encrypt(plain.as_bytes(), &mut room).map_err(too_long)?.to_vec()
    } else {
        let key = OaepPublicEncryptingKey::new(key).map_err(unusable)?;
        let mut room = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA1_MGF1SHA1, plain.as_bytes(), &mut room, None).map_err(too_long)?.to_vec()
    };
    Ok(STANDARD.encode(cipher))
}

/// Name, password and time. As iperf3 reads them, neither has a blank in it.
fn read_credentials(plain: &[u8]) -> Option<(&str, &str, u64)> {
    let mut words = std::str::from_utf8(plain).ok()?.split_ascii_whitespace();
    let mut after = |label: &str| (words.next()? == label).then(|| words.next()).flatten();
    let (user, password, seconds) = (after("user:")?, after("pwd:")?, after("ts:")?);
    Some((user, password, seconds.parse().ok()?))
}

/// Names and hashes of the users' file; what is no such line is left out.
fn users(file: &str) -> Vec<(String, String)> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(','))
        .map(|(name, hash)| (name.to_owned(), hash.split(',').next().unwrap_or("").trim_end().to_owned()))
        .collect()
}

fn hash(user: &str, password: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{{{user}}}{password}").as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes between the lines that begin and end `label` (RFC 7468).
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// A PKCS #1 key as PKCS #8 has it.
fn in_pkcs8(key: &[u8]) -> Vec<u8> {
    let mut inner = vec![0x02, 0x01, 0x00];
    inner.extend(RSA_IDENTIFIER);
    inner.extend(tagged(0x04, key));
    tagged(0x30, &inner)
}

/// `content` behind a tag and its length (X.690 §8.1.3).
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut bytes = vec![tag];
    match content.len() {
        0..=127 => bytes.push(content.len() as u8),
        // At most 8 bytes.
        _ => {
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
