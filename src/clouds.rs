//! The variables of object stores, as backups, payloads and connectors use them.

use crate::config::Secret;

/// The variables, by their names in lower case. An address that the operator gave as `http://` is
/// meant so; the client wants that said twice.
#[must_use]
pub fn settings(clouds: &[(String, Secret)]) -> Vec<(&str, &str)> {
    let mut settings: Vec<(&str, &str)> =
        clouds.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    let plain = endpoint(clouds).is_some_and(|endpoint| {
        let start = endpoint.reveal().trim_start().get(..7);
        start.is_some_and(|start| start.eq_ignore_ascii_case("http://"))
    });
    const ALLOW: &str = "aws_allow_http";
    if plain && !settings.iter().any(|(name, _)| *name == ALLOW) {
        settings.push((ALLOW, "true"));
    }
    settings
}

/// The service that the operator names in the place of Amazon's.
#[must_use]
pub fn endpoint(clouds: &[(String, Secret)]) -> Option<&Secret> {
    ["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"]
        .into_iter()
        .find_map(|name| value(clouds, name))
}

/// The value of a variable, by its name in lower case, if it is not blank.
#[must_use]
pub fn value<'c>(clouds: &'c [(String, Secret)], name: &str) -> Option<&'c Secret> {
    let given = clouds.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    given.filter(|value| !value.reveal().trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_address_is_meant_so_unless_it_is_forbidden() {
        let allowed = |given: &[(&str, &str)]| {
            let clouds: Vec<(String, Secret)> = given
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Secret::from((*value).to_owned())))
                .collect();
            let settings = settings(&clouds).into_iter();
            settings
                .filter(|(name, _)| *name == "aws_allow_http")
                .map(|(_, v)| v.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(allowed(&[("aws_endpoint_url_s3", "http://10.0.0.9:9000")]), ["true"]);
        assert_eq!(allowed(&[("aws_endpoint_url", " HTTP://minio")]), ["true"]);
        assert!(allowed(&[("aws_endpoint_url", "https://minio")]).is_empty());
        assert!(allowed(&[]).is_empty());
        let forbidden = [("aws_endpoint_url", "http://minio"), ("aws_allow_http", "false")];
        assert_eq!(allowed(&forbidden), ["false"]);
    }
}
