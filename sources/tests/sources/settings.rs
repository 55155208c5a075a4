use std::path::Path;

use peftbench_sources::{Error, Settings};

fn settings(variables: &[(&str, &str)]) -> Result<Settings, Error> {
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Settings::from_lookup(false, move |name| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    })
}

#[test]
fn without_any_variable_the_caches_are_under_the_home_folder_and_the_hub_is_the_public_one() {
    let settings = settings(&[("HOME", "/home/ada")]).unwrap();
    assert_eq!(settings.cache, Path::new("/home/ada/.cache/peftbench"));
    assert_eq!(
        settings.hub_cache,
        Path::new("/home/ada/.cache/huggingface/hub")
    );
    assert_eq!(settings.endpoint, "https://huggingface.co");
    assert!(!settings.offline);
}

#[test]
fn the_nearer_variable_decides_where_a_cache_is() {
    let all = [
        ("PEFTBENCH_CACHE", "/p"),
        ("HF_HUB_CACHE", "/hub-cache"),
        ("HF_HOME", "/hf"),
        ("XDG_CACHE_HOME", "/xdg"),
        ("HOME", "/home/ada"),
    ];
    let nearest = settings(&all).unwrap();
    assert_eq!(nearest.cache, Path::new("/p"));
    assert_eq!(nearest.hub_cache, Path::new("/hub-cache"));

    let home = settings(&all[2..]).unwrap();
    assert_eq!(home.cache, Path::new("/xdg/peftbench"));
    assert_eq!(home.hub_cache, Path::new("/hf/hub"));

    let xdg = settings(&all[3..]).unwrap();
    assert_eq!(xdg.hub_cache, Path::new("/xdg/huggingface/hub"));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings = settings(&[
        ("HOME", "/home/ada"),
        ("PEFTBENCH_CACHE", ""),
        ("HF_ENDPOINT", ""),
        ("HF_HUB_OFFLINE", ""),
    ])
    .unwrap();
    assert_eq!(settings.cache, Path::new("/home/ada/.cache/peftbench"));
    assert_eq!(settings.endpoint, "https://huggingface.co");
    assert!(!settings.offline);
}

#[test]
fn hf_hub_offline_is_read_as_huggingface_reads_it() {
    for (value, offline) in [("1", true), ("true", true), ("Yes", true), ("0", false)] {
        let settings = settings(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).unwrap();
        assert_eq!(settings.offline, offline, "{value}");
    }
}

#[test]
fn the_token_is_the_variable_or_the_file_beside_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
    let hf_home = ("HF_HOME", folder.path().to_str().unwrap());
    let token = |variables: &[_]| settings(variables).unwrap().token;
    assert_eq!(
        token(&[("HOME", "/h"), hf_home]).as_deref(),
        Some("from-file")
    );
    assert_eq!(
        token(&[("HOME", "/h"), hf_home, ("HF_TOKEN", "from-variable")]).as_deref(),
        Some("from-variable")
    );
}

#[test]
fn an_endpoint_that_is_no_address_is_refused_with_its_value() {
    let Err(error) = settings(&[("HOME", "/h"), ("HF_ENDPOINT", "mirror.example")]) else {
        panic!("accepted");
    };
    assert_eq!(
        error.to_string(),
        "environment variable HF_ENDPOINT=\"mirror.example\": is not an address; write https://host or http://host:port"
    );
    let slash = settings(&[("HOME", "/h"), ("HF_ENDPOINT", "http://mirror.example/")]).unwrap();
    assert_eq!(slash.endpoint, "http://mirror.example");
}

#[test]
fn without_a_home_folder_the_error_names_the_variables_that_help() {
    let Err(error) = settings(&[]) else {
        panic!("accepted");
    };
    assert!(
        error
            .to_string()
            .contains("set PEFTBENCH_CACHE and HF_HOME")
    );
}

#[test]
fn credentials_of_a_refused_endpoint_are_not_echoed() {
    let Err(error) = settings(&[("HOME", "/h"), ("HF_ENDPOINT", "ada:s3cret@mirror.example")])
    else {
        panic!("accepted");
    };
    let message = error.to_string();
    assert!(
        message.contains("***@mirror.example") && !message.contains("s3cret"),
        "{message}"
    );
}

#[test]
fn certificates_are_named_by_the_variables_that_python_follows() {
    let named = |variables: &[(&str, &str)]| {
        let all = [&[("HOME", "/h")], variables].concat();
        settings(&all).unwrap().certificates
    };
    assert_eq!(named(&[]), None);
    let (requests, ssl) = (
        ("REQUESTS_CA_BUNDLE", "/r.pem"),
        ("SSL_CERT_FILE", "/s.pem"),
    );
    let wanted = |(name, file): (&str, &str)| Some((name.to_string(), file.into()));
    assert_eq!(named(&[ssl]), wanted(ssl));
    assert_eq!(named(&[ssl, requests]), wanted(requests));
}

#[test]
fn certificates_that_are_none_are_named_before_anybody_is_asked() {
    let machine = crate::support::Machine::new();
    let source = crate::support::source(
        "{files: {a: {}}, places: [hub: {repo: ada/net, kind: model, revision: main, files: {a: a}}]}",
    );
    let empty = machine.write("empty.pem", b"no certificate");
    for (file, words) in [
        (empty, "it holds no certificate in PEM form"),
        (machine.path("none.pem"), "does not exist"),
    ] {
        let fetcher = peftbench_sources::Fetcher::new(Settings {
            certificates: Some(("SSL_CERT_FILE".into(), file)),
            ..machine.settings(&crate::support::nobody())
        });
        let error = fetcher.fetch("net", &source).unwrap_err().to_string();
        assert!(
            error.contains("SSL_CERT_FILE") && error.contains(words),
            "{error}"
        );
    }
}
