//! Certificates and keys: there, readable, and PEM. What is in them is for the TLS code to judge.

use std::path::Path;

use super::{Check, below};
use crate::config::model::{ServerTls, UpstreamTls};
use crate::config::source::read_bounded;
use crate::config::tree::Step;

pub(super) fn of_listener(tls: &ServerTls, at: &[Step], check: &mut Check<'_>) {
    pem(&tls.cert_file, &below(at, "cert_file"), CERTIFICATE, check);
    pem(&tls.key_file, &below(at, "key_file"), PRIVATE_KEY, check);
    if let Some(file) = &tls.client_ca_file {
        pem(file, &below(at, "client_ca_file"), CERTIFICATE, check);
    }
}

pub(super) fn of_upstream(tls: &UpstreamTls, at: &[Step], check: &mut Check<'_>) {
    if let Some(file) = &tls.ca_file {
        pem(file, &below(at, "ca_file"), CERTIFICATE, check);
    }
    if let Some(file) = &tls.client_cert_file {
        pem(file, &below(at, "client_cert_file"), CERTIFICATE, check);
        if tls.client_key_file.is_none() {
            check.wrong(&below(at, "client_cert_file"), "needs its private key", "set client_key_file too");
        }
    }
    if let Some(file) = &tls.client_key_file {
        pem(file, &below(at, "client_key_file"), PRIVATE_KEY, check);
        if tls.client_cert_file.is_none() {
            check.wrong(&below(at, "client_key_file"), "needs its certificate", "set client_cert_file too");
        }
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if tls.server_name.as_ref().is_some_and(|name| name.len() > 253 || !name.bytes().all(letter)) {
        check.wrong(&below(at, "server_name"), "must be a host name or an IP address", "");
    }
}

fn pem(file: &Path, at: &[Step], label: &str, check: &mut Check<'_>) {
    check.files.push(file.to_owned());
    match read_bounded(file, PEM_MAX) {
        Err(why) => check.wrong(
            at,
            format!("cannot read {}: {why}", file.display()),
            "a relative path starts from the folder of the config file",
        ),
        Ok(bytes) if !holds(&bytes, label) => check.wrong(
            at,
            format!("{} holds no {} in PEM", file.display(), label.to_ascii_lowercase()),
            format!("it should have a line -----BEGIN {label}-----"),
        ),
        Ok(_) => {}
    }
}

/// Keys come as PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY.
fn holds(bytes: &[u8], label: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let ends = format!("{label}-----");
    text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&ends))
}

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";
const PEM_MAX: u64 = 4 << 20; // A bundle of all public roots is a quarter of a MiB.
