//! The region that the AWS profile names, for a node that is told none by its file or environment.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".
//!
//! Invariant: only files are read. The chain's last link, the instance's own region, is left out: where
//! there is no instance, asking for it delays the start.

use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;

use crate::config::region::WANTED;
use crate::config::{Config, Problem, Problems, Region};

/// Fills in the region of the profile `AWS_PROFILE` in `AWS_CONFIG_FILE`, where `config` has none.
pub async fn with_region(mut config: Config) -> Result<Config, Problems> {
    if config.region.is_some() {
        return Ok(config);
    }
    let provider = ProfileFileRegionProvider::new();
    let Some(found) = provider.region().await else {
        return Ok(config);
    };
    config.region = Region::parse(found.as_ref(), "the AWS profile");
    if config.region.is_none() {
        let message = format!("has no region, and that of the AWS profile {WANTED}, not {found}");
        return Err(Problems(vec![Problem::of_file(&config.file, message)]));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::config::Surroundings;

    const PROFILES: &str = "[default]\nregion = us-east-1\n\
        [profile work]\nregion = eu-west-3\n\
        [profile wrong]\nregion = EU West\n\
        [profile none]\noutput = json\n";

    /// The environment is a process's own, so each look at it is a run of this test in one of its own.
    #[tokio::test]
    async fn the_profile_names_the_region_where_nothing_else_does() {
        if let Ok(text) = std::env::var("FOREBAY_TEST_CONFIG") {
            let config = Config::parse(&text, Path::new("forebay.toml"), &Surroundings::here());
            let said = match with_region(config.unwrap()).await {
                Ok(Config { region, .. }) => format!("{:?}", region.map(|r| (r.name, r.source))),
                Err(problems) => problems.to_string(),
            };
            let expected = std::env::var("FOREBAY_TEST_EXPECTED").unwrap();
            assert!(said.contains(&expected), "{said}");
            return;
        }
        check(&[], "", r#"Some(("us-east-1", "the AWS profile"))"#);
        let work = ("AWS_PROFILE", "work");
        check(&[work], "", r#"Some(("eu-west-3", "the AWS profile"))"#);
        let default = ("AWS_DEFAULT_REGION", "eu-north-1");
        check(
            &[work, default],
            "",
            r#"Some(("eu-north-1", "AWS_DEFAULT_REGION"))"#,
        );
        let variable = ("AWS_REGION", "eu-south-1");
        check(
            &[work, default, variable],
            "",
            r#"Some(("eu-south-1", "AWS_REGION"))"#,
        );
        check(
            &[work, default, variable],
            "region = \"eu-central-1\"",
            r#"Some(("eu-central-1", "the configuration file"))"#,
        );
        check(&[("AWS_PROFILE", "none")], "", "None");
        check(
            &[("AWS_PROFILE", "wrong")],
            "",
            "that of the AWS profile must be an AWS region, such as eu-central-1, not EU West",
        );
    }

    #[track_caller]
    fn check(environment: &[(&str, &str)], text: &str, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let profiles = dir.path().join("config");
        std::fs::write(&profiles, PROFILES).unwrap();
        let test = "control::region::tests::the_profile_names_the_region_where_nothing_else_does";
        let mut again = Command::new(std::env::current_exe().unwrap());
        for variable in ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"] {
            again.env_remove(variable);
        }
        let again = again
            .args(["--exact", test])
            .env("AWS_CONFIG_FILE", &profiles)
            .env("AWS_SHARED_CREDENTIALS_FILE", dir.path().join("none"))
            .env("FOREBAY_TEST_CONFIG", text)
            .env("FOREBAY_TEST_EXPECTED", expected)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
