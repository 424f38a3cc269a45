use super::*;

/// Made with `openssl genrsa 2048`, for these tests.
const PRIVATE: &str = include_str!("../../../tests/vectors/iperf3_private.pem");
/// The same as `openssl rsa -traditional` writes it.
const TRADITIONAL: &str = include_str!("../../../tests/vectors/iperf3_traditional.pem");
/// As `openssl rsa -pubout` writes it.
const PUBLIC: &str = include_str!("../../../tests/vectors/iperf3_public.pem");

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn guard(key: &str, pkcs1_padding: bool) -> Guard {
    // printf '{mario}rossi' | sha256sum, as iperf3's manual has it.
    let users =
        "# users\n\nnobody,\nmario,bf7a49a846d44b454a5d11e7acfaf13d138bbe0b7483aa3e050879700572709b\r\n";
    Guard::new(&ServerAuthentication {
        private_key: key.to_owned(),
        users: users.to_owned(),
        time_skew: Duration::from_secs(10),
        pkcs1_padding,
    })
    .unwrap()
}

fn client(password: &str, pkcs1_padding: bool) -> ClientAuthentication {
    ClientAuthentication {
        user: "mario".to_owned(),
        password: password.to_owned(),
        public_key: PUBLIC.to_owned(),
        pkcs1_padding,
    }
}

#[test]
fn who_knows_the_password_may_test() {
    let now = UNIX_EPOCH + NOW;
    for padding in [false, true] {
        for key in [PRIVATE, TRADITIONAL] {
            let guard = guard(key, padding);
            let token = token(&client("rossi", padding), now).unwrap();
            assert_eq!(guard.check(Some(&token), now + Duration::from_secs(9)).unwrap(), "mario");
            for late in [11, 3600] {
                assert!(guard.check(Some(&token), now + Duration::from_secs(late)).is_err());
            }
        }
    }
}

#[test]
fn whoever_else_may_not_and_is_not_told_why() {
    let now = UNIX_EPOCH + NOW;
    let guard = guard(PRIVATE, false);
    let wrong = token(&client("verdi", false), now).unwrap();
    let padded = token(&client("rossi", true), now).unwrap();
    for token in [None, Some(""), Some("AAAA"), Some("no base64!"), Some(wrong.as_str()), Some(&padded)] {
        assert_eq!(guard.check(token, now).unwrap_err().code, Code::Authentication);
    }
    assert!(guard.check(Some(&"A".repeat(1 << 20)), now).is_err());
}

#[test]
fn a_key_that_is_none_is_refused() {
    for key in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", PUBLIC] {
        let config = ServerAuthentication {
            private_key: key.to_owned(),
            users: String::new(),
            time_skew: Duration::from_secs(10),
            pkcs1_padding: false,
        };
        assert_eq!(Guard::new(&config).unwrap_err().code, Code::ServerAuthentication);
    }
    let mut who = client("rossi", false);
    who.public_key = PRIVATE.to_owned();
    assert!(token(&who, UNIX_EPOCH).is_err());
    let long = client(&"x".repeat(300), false);
    assert_eq!(token(&long, UNIX_EPOCH).unwrap_err().code, Code::ClientAuthentication);
}
