//! How a test of iperf3's protocol ends when it does not run to its end, and who may begin one, against stock iperf3 over loopback.
#![forbid(unsafe_code)]

#[path = "iperf3/harness.rs"]
mod harness;
#[path = "iperf3/raw.rs"]
mod raw;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harness::{Served, StockServer, Told, client, client_command, end_of, has_gsro, run, stock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raw::{Raw, datagram, parameters, whole_test};
use wirerate_engine::interop::iperf3::{
    Amount, ClientAuthentication, ClientConfig, Code, Control, Direction, ServerAuthentication,
};

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(vectors(name)).expect("a key of the tests")
}

/// As iperf3's manual makes it: SHA-256 of `{mario}rossi`.
const USERS: &str = "mario,bf7a49a846d44b454a5d11e7acfaf13d138bbe0b7483aa3e050879700572709b\n";

fn client_config(port: u16) -> ClientConfig {
    let mut config = ClientConfig::new("127.0.0.1");
    (config.port, config.length, config.bandwidth) = (port, Some(1000), 10_000_000);
    config.amount = Amount::Seconds(1);
    config
}

#[test]
fn who_has_the_password_may_test_at_our_server_and_at_a_stock_one() {
    for iperf3 in stock() {
        // 3.17 has OAEP.
        let pkcs1_padding = !has_gsro(&iperf3);
        let served = Served::start("127.0.0.1", |config| {
            config.authentication = Some(ServerAuthentication {
                private_key: read("iperf3_private.pem"),
                users: USERS.to_owned(),
                time_skew: Duration::from_secs(100),
                pkcs1_padding,
            });
        });
        let public = vectors("iperf3_public.pem");
        let args = ["-t", "1", "--username", "mario", "--rsa-public-key-path", public.to_str().unwrap()];
        for (password, may) in [("rossi", true), ("verdi", false)] {
            let output =
                client_command(&iperf3, served.address, &args).env("IPERF3_PASSWORD", password).output();
            let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
            if may {
                assert!(json["error"].is_null(), "{json}");
                let parameters = served.until(|told| match told {
                    Told::Parameters(_, parameters) => Some(parameters),
                    _ => None,
                });
                assert_eq!(parameters.user.as_deref(), Some("mario"));
            } else {
                assert!(json["error"].as_str().unwrap().contains("test authorization failed"), "{json}");
                assert_eq!(served.failure().code, Code::Authentication);
            }
        }
        let without = client(&iperf3, served.address, &["-t", "1"]);
        assert!(without["error"].is_string(), "{without}");
        served.stop().unwrap();

        let directory = tempfile::tempdir().unwrap();
        let users = directory.path().join("users.csv");
        std::fs::write(&users, USERS).unwrap();
        let private = vectors("iperf3_private.pem");
        for (password, may) in [("rossi", true), ("verdi", false)] {
            let args = ["--rsa-private-key-path", private.to_str().unwrap(), "--authorized-users-path"];
            let args = [&args[..], &[users.to_str().unwrap()]].concat();
            let server = StockServer::start(&iperf3, "127.0.0.1", &args);
            let mut config = client_config(server.port);
            config.authentication = Some(ClientAuthentication {
                user: "mario".to_owned(),
                password: password.to_owned(),
                public_key: read("iperf3_public.pem"),
                pkcs1_padding,
            });
            let (told, result) = run(&config, &Control::default());
            assert_eq!(result.is_ok(), may, "{told:?}");
        }
    }
}

#[test]
fn a_stock_client_that_is_stopped_or_dies_ends_its_test_alone() {
    for iperf3 in stock() {
        let served = Served::start("127.0.0.1", |_| {});
        for (signal, args, code) in [
            (Signal::SIGINT, &[][..], Code::ClientTerminated),
            (Signal::SIGKILL, &[][..], Code::ControlClose),
            (Signal::SIGKILL, &["-R"][..], Code::ControlClose),
        ] {
            let args: Vec<&str> = args.iter().copied().chain(["-t", "30", "-b", "10M"]).collect();
            let mut child =
                client_command(&iperf3, served.address, &args).stdout(Stdio::null()).spawn().unwrap();
            // Data flows.
            served.until(|told| match told {
                Told::Interval(interval) => (interval.streams[0].packets > 0).then_some(()),
                _ => None,
            });
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            child.wait().unwrap();
            let end = served.end();
            assert!(end.streams[0].own.packets > 0 && end.streams[0].peer.is_none(), "{end:?}");
            assert_eq!(served.failure().code, code);
            served.until(|told| matches!(told, Told::Listening(..)).then_some(()));
            whole_test(served.address);
            served.until(|told| matches!(told, Told::Listening(..)).then_some(()));
        }
        served.stop().unwrap();
    }
}

#[test]
fn our_client_that_is_stopped_tells_a_stock_server() {
    for iperf3 in stock() {
        for direction in [Direction::Normal, Direction::Reverse] {
            let server = StockServer::start(&iperf3, "127.0.0.1", &[]);
            let control = Control::default();
            let mut config = client_config(server.port);
            (config.amount, config.direction) = (Amount::Seconds(30), direction);
            let stop = control.clone();
            let mut told = 0;
            let mut last = None;
            let result = wirerate_engine::interop::iperf3::run(&config, &control, &mut |event| match event {
                wirerate_engine::interop::iperf3::Event::Interval(interval) => {
                    told += interval.streams[0].packets;
                    stop.request();
                }
                wirerate_engine::interop::iperf3::Event::End(end) => last = Some(end.clone()),
                _ => {}
            });
            let failure = result.unwrap_err();
            assert_eq!((failure.code, failure.interrupted), (Code::ClientTerminated, true));
            let end = last.expect("what there was until then");
            assert!(end.streams[0].own.packets >= told && told > 0, "{end:?}");
            let json = server.json();
            assert!(
                json["error"].as_str().is_some_and(|e| e.contains("the client has terminated")),
                "{json}"
            );
        }
    }
}

#[test]
fn a_server_that_is_stopped_says_so() {
    for iperf3 in stock() {
        // A stock one, to our client.
        let server = StockServer::start(&iperf3, "127.0.0.1", &[]);
        let mut config = client_config(server.port);
        config.amount = Amount::Seconds(30);
        let id = server.id();
        let mut told = Vec::new();
        let result = wirerate_engine::interop::iperf3::run(&config, &Control::default(), &mut |event| {
            if let wirerate_engine::interop::iperf3::Event::Interval(interval) = event
                && interval.streams[0].packets > 0
            {
                let _ = kill(Pid::from_raw(id), Signal::SIGINT);
            }
            if let wirerate_engine::interop::iperf3::Event::End(end) = event {
                told.push(Told::End(end.clone()));
            }
        });
        assert_eq!(result.unwrap_err().code, Code::ServerTerminated);
        assert!(end_of(&told).streams[0].own.packets > 0);
        drop(server);
        // Ours, to a stock client.
        let served = Served::start("127.0.0.1", |_| {});
        let mut command = client_command(&iperf3, served.address, &["-t", "30", "-b", "10M"]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        served.until(|told| matches!(told, Told::Interval(_)).then_some(()));
        served.stop().unwrap();
        let output = child.wait_with_output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json["error"].as_str().unwrap().contains("the server has terminated"), "{json}");
    }
}

#[test]
fn a_client_that_lies_about_lengths_is_counted_as_it_is() {
    let served = Served::start("127.0.0.1", |_| {});
    let mut raw = Raw::asked(served.address, &parameters());
    let stream = raw.stream("127.0.0.1");
    assert_eq!((raw.byte(), raw.byte()), (Some(1), Some(2)));
    // It promised 1000 bytes. What has no header is nothing.
    for (number, length) in [(1, 500), (2, 16), (3, 1400), (6, 999)] {
        stream.send(&datagram(number, length)).unwrap();
    }
    stream.send(b"short").unwrap();
    stream.send(b"").unwrap();
    let said = raw.finish(6);
    let told = &said["streams"][0];
    assert_eq!(told["packets"].as_u64(), Some(6), "{said}");
    assert_eq!((told["bytes"].as_u64(), told["errors"].as_u64()), (Some(2915), Some(2)), "{said}");
    served.stop().unwrap();
}

#[test]
fn one_test_and_no_more() {
    let served = Served::start("127.0.0.1", |config| config.one_off = true);
    whole_test(served.address);
    served.until(|told| matches!(told, Told::Done(1)).then_some(()));
    served.wait().unwrap();
    let idle = Served::start("127.0.0.1", |config| {
        (config.one_off, config.idle_timeout) = (true, Some(Duration::from_millis(200)));
    });
    idle.wait().unwrap();
}

#[test]
fn limits_of_a_server_are_told_by_iperf3s_numbers() {
    let served = Served::start("127.0.0.1", |config| {
        config.max_duration = Some(Duration::from_secs(5));
        config.bitrate_limit = Some(wirerate_engine::interop::iperf3::BitrateLimit {
            bits_per_second: 2_000_000,
            over: Duration::from_secs(1),
        });
    });
    for (key, value, code) in [
        ("time", 6, Code::MaxDuration),
        ("bandwidth", 3_000_000, Code::TotalRate),
        ("tcp", 1, Code::Protocol),
    ] {
        let mut json = parameters();
        if code == Code::Protocol {
            json = serde_json::json!({"tcp": true});
        } else {
            json[key] = value.into();
        }
        let mut raw = Raw::greeted(served.address);
        raw.say_json(&json);
        assert_eq!(raw.error(), Some(code.number()));
        assert_eq!(served.failure().code, code);
    }
    served.stop().unwrap();
}
