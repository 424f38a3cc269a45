//! Keys, users and passwords: files read, and the password asked for.

use std::fs;
use std::time::Duration;

use wirerate_engine::interop::iperf3::{ClientAuthentication, ServerAuthentication};

use super::values::{Refused, whole};
use crate::args::iperf3::Iperf3;

/// Where iperf3 looks for the password.
const PASSWORD: &str = "IPERF3_PASSWORD";

/// Who may test, from the files that `args` name.
pub fn of_server(args: &Iperf3) -> Refused<Option<ServerAuthentication>> {
    let (key, users) = match (&args.rsa_private_key_path, &args.authorized_users_path) {
        (None, None) => return Ok(None),
        (Some(key), Some(users)) => (key, users),
        _ => {
            return Err(
                "you must specify a path to a valid RSA private key and a user credential file".to_owned()
            );
        }
    };
    let skew = args.time_skew_threshold.as_deref().unwrap_or("10");
    let seconds = whole(skew, 1..=86_400, "bad time skew threshold: seconds from 1 to 86400 are needed")?;
    Ok(Some(ServerAuthentication {
        private_key: read(key, "the RSA private key")?,
        users: fs::read_to_string(users)
            .map_err(|e| format!("cannot access authorized users file: {users}: {e}"))?,
        time_skew: Duration::from_secs(seconds),
        pkcs1_padding: args.use_pkcs1_padding,
    }))
}

/// Who asks, with the password of the environment or of the terminal.
pub fn of_client(args: &Iperf3) -> Refused<Option<ClientAuthentication>> {
    let incomplete =
        || "you must specify a username, password, and path to a valid RSA public key".to_owned();
    let (user, key) = match (&args.username, &args.rsa_public_key_path) {
        (None, None) => return Ok(None),
        (Some(user), Some(key)) => (user, key),
        _ => return Err(incomplete()),
    };
    let public_key = read(key, "the RSA public key")?;
    let password = match std::env::var(PASSWORD) {
        Ok(password) => password,
        Err(_) => rpassword::prompt_password("Password: ").map_err(|e| {
            format!("{}: no password: {PASSWORD} is not set, and the terminal gives none: {e}", incomplete())
        })?,
    };
    Ok(Some(ClientAuthentication {
        user: user.clone(),
        password,
        public_key,
        pkcs1_padding: args.use_pkcs1_padding,
    }))
}

fn read(path: &str, what: &str) -> Refused<String> {
    fs::read_to_string(path).map_err(|e| format!("{what} cannot be read: {path}: {e}"))
}
