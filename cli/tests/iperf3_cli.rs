//! The command line of `wirerate iperf3`: every flag of the real one is known, what is not here is refused with the reason, and the rest is complained of in the same
//! words and with the same status.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::iperf3::Who::{self, Ours, Real};
use common::iperf3::{Server, free_port};

/// Flags of an `iperf3 --help`: "-p" and "--port" of "  -p, --port      #   server port …".
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| {
        line.split("  ").next().unwrap_or_default().split([' ', ',', '=', '[', '<']).map(str::to_owned)
    });
    words
        .filter(|word| word.len() > 1 && word.starts_with('-') && !word.trim_matches('-').is_empty())
        .collect()
}

/// The help of each real iperf3 there is: the distribution's, and the one that scripts/peers fetches.
fn real_helps() -> Vec<String> {
    let fetched = std::env::var("WIRERATE_PEERS").unwrap_or_else(|_| "../target/peers".to_owned());
    ["iperf3".to_owned(), format!("{fetched}/bin/iperf3")]
        .into_iter()
        .filter_map(|program| Command::new(program).arg("--help").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .collect()
}

#[test]
fn every_flag_of_the_real_one_is_known() {
    let ours = flags(&Ours.run(&["--help"]).stdout);
    let helps = real_helps();
    assert!(!helps.is_empty(), "iperf3 is not installed: scripts/install test");
    for help in helps {
        let real = flags(&help);
        assert!(real.len() > 60, "{real:?}");
        let unknown: Vec<_> = real.difference(&ours).collect();
        assert!(unknown.is_empty(), "{unknown:?} of {}", help.lines().next().unwrap_or_default());
    }
}

#[test]
fn what_is_not_here_is_refused_with_the_reason() {
    let client = ["-c", "192.0.2.1"];
    let udp = ["-c", "192.0.2.1", "-u"];
    for (role, args, reason) in [
        (&client[..], &[][..], "without -u iperf3's client measures TCP"),
        (&client, &["-C", "bbr"], "-C: belongs to TCP"),
        (&udp, &["-M", "1400"], "-M: belongs to TCP"),
        (&udp, &["--no-delay"], "-N: belongs to TCP"),
        (&udp, &["-m"], "-m: belongs to TCP"),
        (&udp, &["--snd-timeout", "100"], "--snd-timeout: belongs to TCP"),
        (&client, &["--sctp"], "--sctp: belongs to SCTP"),
        (&client, &["-X", "a", "-X", "b"], "-X: belongs to SCTP"),
        (&client, &["--nstreams", "4"], "--nstreams: belongs to SCTP"),
        (&udp, &["-F", "/etc/passwd"], "cannot transfer file using UDP"),
        (&udp, &["--fq-rate", "1G"], "the program does it"),
        (&udp, &["-d"], "-d: prints what happens within iperf3"),
        (&udp, &["--debug=2"], "-d: prints what happens within iperf3"),
        (&udp, &["-l", "64,594,1518"], "one length for a whole test"),
        (&udp, &["-l", "imix"], "wirerate send --length imix"),
        (&udp, &["--frame-size", "64-1518"], "one length for a whole test"),
        (&udp, &["--imix"], "one length for a whole test"),
        (&udp, &["-b", "1000pps"], "carries bits a second"),
        (&udp, &["--backend", "afxdp"], "do not carry iperf3's handshake"),
        (&["-c", "239.1.2.3", "-u"], &[], "is a multicast group"),
        (&["-c", "ff3e::1", "-u"], &[], "is a multicast group"),
    ] {
        let ended = Ours.run(&[role, args].concat());
        ended.expect(1, &["iperf3: parameter error - ", reason]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn what_is_wrong_is_said_in_the_same_words() {
    for args in [
        &["-c", "192.0.2.1", "-u", "-l", "3"][..],
        &["-c", "192.0.2.1", "-u", "-t", "9", "-n", "5"],
        &["-c", "192.0.2.1", "-u", "-R", "--bidir"],
        &["-s", "-u"],
        &["-s", "-t", "5"],
        &["-s", "-c", "192.0.2.1"],
        &[],
        &["-c", "192.0.2.1", "-D"],
        &["-c", "192.0.2.1", "-u", "-1"],
        &["-c", "192.0.2.1", "-u", "-i", "0.01"],
        &["-c", "192.0.2.1", "-u", "-i", "70"],
        &["-c", "192.0.2.1", "-u", "-f", "z"],
        &["-c", "192.0.2.1", "-u", "-w", "999G"],
        &["-c", "192.0.2.1", "-u", "-b", "1M/2000"],
        &["-c", "192.0.2.1", "-u", "-S", "300"],
        &["-c", "192.0.2.1", "-u", "--username", "u"],
        &["-s", "--rsa-private-key-path", "/dev/null"],
        &["-s", "-p", "99999"],
        &["-c", "192.0.2.1", "-u", "--cport", "99999"],
    ] {
        let (real, ours) = (Real.run(args), Ours.run(args));
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(first(&ours.stderr), first(&real.stderr), "{args:?}");
        assert_eq!((ours.code, real.code), (1, 1), "{args:?}");
    }
}

#[test]
fn a_word_that_nobody_knows_has_iperf3s_status_here_only() {
    Ours.run(&["-s", "--no-such-flag"]).expect(1, &["--no-such-flag"]);
    Ours.run(&["-c"]).expect(1, &["--client"]);
    common::run(common::wirerate(&["recv", "--no-such-flag"])).expect(2, &["--no-such-flag"]);
    let version = Ours.run(&["-v"]);
    assert_eq!(version.code, 0);
    assert!(version.stdout.starts_with("iperf 3.22 (wirerate "), "{}", version.stdout);
    // Long names may be cut short, as with the real one.
    Ours.run(&["--cli", "192.0.2.1", "--udp", "--paral", "200"])
        .expect(1, &["invalid number of parallel streams"]);
}

#[test]
fn nobody_listens() {
    let port = free_port().to_string();
    let args = ["-c", "127.0.0.1", "-p", &port, "-u"];
    let (real, ours) = (Real.run(&args), Ours.run(&args));
    ours.expect(1, &["iperf3: error - unable to connect to server", "Connection refused"]);
    assert_eq!((real.code, ours.stdout.as_str()), (1, ""));
    let json = |who: Who| who.run(&[&args[..], &["-J"]].concat()).json();
    let (real, ours) = (json(Real), json(Ours));
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&real));
    assert_eq!(keys(&ours["end"]), keys(&real["end"]));
    assert!(ours["error"].as_str().unwrap().starts_with("unable to connect to server"));
    let ended = Ours.run(&[&args[..], &["--json-stream"]].concat());
    assert!(
        ended.stdout.starts_with(r#"{"event":"error","data":"unable to connect to server"#),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.ends_with("{\"event\":\"end\",\"data\":{}}\n"), "{}", ended.stdout);
}

/// SHA-256 of "{joe}secret".
const JOE: &str = "joe,01589a59d7979579da3d685e6d4955754f9237ead8adc3590ed2207d6ef767f2\n";

#[test]
fn credentials_of_files_and_of_the_environment() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/vectors/");
    let (private, public) = (format!("{keys}iperf3_private.pem"), format!("{keys}iperf3_public.pem"));
    let users = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(users.path(), JOE).expect("written");
    let users = users.path().to_str().expect("UTF-8");
    // As 3.12 has it.
    let server = Server::start(
        Ours,
        &["--rsa-private-key-path", &private, "--authorized-users-path", users, "--use-pkcs1-padding"],
    );
    let port = server.port.to_string();
    for (who, password, code) in
        [(Real, "secret", 0), (Real, "wrong", 1), (Ours, "secret", 0), (Ours, "wrong", 1)]
    {
        let mut args = vec!["-c", "127.0.0.1", "-p", &port, "-u", "-n", "2K", "-l", "1000"];
        args.extend(["--username", "joe", "--rsa-public-key-path", &public]);
        args.extend((who == Ours).then_some("--use-pkcs1-padding"));
        let mut command = who.command(&args);
        command.env("IPERF3_PASSWORD", password);
        let ended = common::run(command);
        assert_eq!(ended.code, code, "{who:?} {password}: {}", ended.stderr);
    }
    let none = Ours.run(&["-c", "127.0.0.1", "-p", &port, "-u", "-n", "2K"]);
    none.expect(1, &["iperf3: error - test authorization failed"]);
    server.stop("INT").expect(0, &["iperf3: error - test authorization failed"]);
    Ours.run(&["-s", "--rsa-private-key-path", "/nowhere", "--authorized-users-path", users])
        .expect(1, &["the RSA private key cannot be read: /nowhere"]);
}
