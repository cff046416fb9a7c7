//! A table of what `Authorization` may hold, with the reason for each.

use super::*;

fn read(value: &str) -> Credential {
    Credential::read(value.as_bytes())
}

#[test]
fn a_credential_is_absent_made_anew_or_lasting() {
    for (value, expected, why) in VALUES {
        assert_eq!(read(value), *expected, "{value:?}: {why}");
    }
}

#[test]
fn the_case_of_a_scheme_and_the_space_around_it_make_no_difference() {
    for (value, expected, why) in VALUES {
        let (scheme, rest) = value.split_at(value.find(' ').unwrap_or(value.len()));
        // What is no scheme may well depend on its case.
        if *expected == Credential::Lasting && rest.is_empty() {
            continue;
        }
        for value in [
            format!("{}{rest}", scheme.to_ascii_uppercase()),
            format!("{}{rest}", scheme.to_ascii_lowercase()),
            format!(" \t{scheme}{rest}\t "),
            format!("{scheme}\t  {}", rest.trim_start()),
        ] {
            assert_eq!(read(&value), *expected, "{value:?}: {why}");
        }
    }
}

#[test]
fn a_known_scheme_with_nothing_behind_it_is_no_credential() {
    for scheme in LASTING.iter().chain(MADE_ANEW) {
        for value in [
            scheme.to_string(),
            format!("{scheme} "),
            format!("\t{scheme}"),
        ] {
            assert_eq!(read(&value), Credential::Absent, "{value:?}");
        }
    }
}

#[test]
fn each_scheme_that_is_known_has_its_reason_in_the_table() {
    for scheme in LASTING.iter().chain(MADE_ANEW) {
        let is_of_it = |value: &str| {
            value
                .split_once(' ')
                .is_some_and(|(name, _)| name == *scheme)
        };
        assert!(VALUES.iter().any(|(value, ..)| is_of_it(value)), "{scheme}");
    }
}

const ABSENT: Credential = Credential::Absent;
const LASTS: Credential = Credential::Lasting;
const ANEW: Credential = Credential::MadeAnew;

const VALUES: &[(&str, Credential, &str)] = &[
    ("", ABSENT, "empty"),
    (" ", ABSENT, "blank"),
    ("\t \t", ABSENT, "blank"),
    ("Basic Og==", ABSENT, "no user and no password"),
    ("Basic Og", ABSENT, "the same without padding"),
    ("Basic ==", ABSENT, "nothing at all"),
    // The registry of authentication schemes (IANA), whole.
    ("Basic dXNlcjpwYXNz", LASTS, "user and password"),
    ("Basic Ojo=", LASTS, "a password alone"),
    ("Basic dTo=", LASTS, "a user alone, such as an API key"),
    ("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln", LASTS, "a token"),
    (
        "Concealed k=a, a=b, s=1, v=c, p=d",
        ANEW,
        "proof for this connection",
    ),
    (
        "Digest username=\"u\", nc=00000001, response=\"0\"",
        ANEW,
        "hash of the request and a count",
    ),
    (
        "DPoP eyJhbGciOiJFUzI1NiJ9",
        LASTS,
        "a token; its proof has a header of its own",
    ),
    (
        "GNAP 80UPRY5NM33OMUKMKSKU",
        LASTS,
        "a token; its proof has a header of its own",
    ),
    (
        "HOBA result=\"kid.challenge.nonce.sig\"",
        ANEW,
        "signature of a nonce",
    ),
    (
        "Mutual user=\"u\", sid=1, nc=1, vkc=a",
        ANEW,
        "proof for a count",
    ),
    (
        "Negotiate YIIJvwYGKwYBBQUCoIIJszCC",
        ANEW,
        "a ticket with the time of this request",
    ),
    (
        "OAuth realm=\"a\", oauth_nonce=\"b\", oauth_signature=\"c\"",
        ANEW,
        "OAuth 1 signs each request",
    ),
    (
        "OAuth oauth_consumer_key=\"a\",oauth_timestamp=\"1\"",
        ANEW,
        "OAuth 1 signs each request",
    ),
    (
        "OAuth 00DB0000000TfcR!AQQAQFhoK8vT",
        LASTS,
        "a token of OAuth 2's drafts",
    ),
    (
        "PrivateToken token=\"AAEA\"",
        ANEW,
        "a token that is good once, and of nobody",
    ),
    (
        "SCRAM-SHA-1 data=\"biwsbj11c2VyLHI9\"",
        ANEW,
        "a step of an exchange",
    ),
    (
        "SCRAM-SHA-256 sid=AAAA, data=\"Yz1iaXdz\"",
        ANEW,
        "a step of an exchange",
    ),
    (
        "vapid t=eyJ0eXAiOiJKV1QifQ, k=BA1Hxzyi",
        LASTS,
        "a token, to be used for up to a day",
    ),
    // Tokens and keys in common use.
    ("Token 9944b09199c62bcf", LASTS, "a token"),
    ("Token token=\"9944b09199c62bcf\"", LASTS, "a token"),
    ("ApiKey VnVhQ2ZHY0JDZGJr", LASTS, "a key"),
    ("Api-Key VnVhQ2ZHY0JDZGJr", LASTS, "a key"),
    ("AuthSub token=\"a\"", LASTS, "a token"),
    ("Bot MTk4NjIyNDgzNDcx", LASTS, "a token"),
    ("Client-ID 546c25a59c58ad7", LASTS, "a key"),
    ("GenieKey eb243592-faa2-4ba2", LASTS, "a key"),
    ("GoogleLogin auth=a", LASTS, "a token"),
    ("JWT eyJhbGciOiJIUzI1NiJ9.e30.c2ln", LASTS, "a token"),
    ("Key id:secret", LASTS, "a key"),
    (
        "SharedAccessSignature sr=a&sig=b&se=1700000000&skn=c",
        LASTS,
        "signed once, for some time",
    ),
    ("Snowflake Token=\"a\"", LASTS, "a token of a session"),
    (
        "Splunk 192fd3e46a31246da7ea7f109e7f95fd",
        LASTS,
        "a token of a session",
    ),
    ("SSWS 00QCjAl4MlV-WPXM", LASTS, "a token"),
    ("Acme secret", LASTS, "a scheme of one's own"),
    (
        "universal-share secret",
        LASTS,
        "\"rsa\" and \"sha\" within a word say nothing",
    ),
    (
        "shared secret",
        LASTS,
        "\"sha\" at the start of a word says nothing",
    ),
    // Signatures of the request, most of them with its time or a nonce.
    ("ACS key:signature", ANEW, "Alibaba Cloud"),
    (
        "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=b,Signature=c",
        ANEW,
        "Alibaba Cloud",
    ),
    (
        "ACS3-HMAC-SM3 Credential=a,SignedHeaders=b,Signature=c",
        ANEW,
        "Alibaba Cloud",
    ),
    (
        "ACS3-RSA-SHA256 Credential=a,SignedHeaders=b,Signature=c",
        ANEW,
        "Alibaba Cloud",
    ),
    ("APIAuth id:signature", ANEW, "the api_auth libraries"),
    (
        "APIAuth-HMAC-SHA256 id:signature",
        ANEW,
        "the api_auth libraries",
    ),
    ("AWS key:signature", ANEW, "AWS, version 2"),
    (
        "AWS3 AWSAccessKeyId=a,Algorithm=HmacSHA256,Signature=b",
        ANEW,
        "AWS, version 3",
    ),
    (
        "AWS3-HTTPS AWSAccessKeyId=a,Algorithm=HmacSHA256,Signature=b",
        ANEW,
        "AWS, version 3",
    ),
    (
        "AWS4-HMAC-SHA256 Credential=a/20250101/eu/s3/aws4_request, Signature=b",
        ANEW,
        "AWS, version 4",
    ),
    (
        "AWS4-ECDSA-P256-SHA256 Credential=a/20250101/s3/aws4_request, Signature=b",
        ANEW,
        "AWS, version 4a",
    ),
    ("Bitso key:nonce:signature", ANEW, "signature of a nonce"),
    (
        "EG1-HMAC-SHA256 client_token=a;timestamp=b;nonce=c;signature=d",
        ANEW,
        "Akamai EdgeGrid",
    ),
    ("GCS v1HMAC:key:signature", ANEW, "Worldline Connect"),
    ("GOOG1 key:signature", ANEW, "Google Cloud Storage"),
    (
        "GOOG4-HMAC-SHA256 Credential=a, Signature=b",
        ANEW,
        "Google Cloud Storage",
    ),
    (
        "GOOG4-RSA-SHA256 Credential=a, Signature=b",
        ANEW,
        "Google Cloud Storage",
    ),
    (
        "Hawk id=\"a\", ts=\"1\", nonce=\"b\", mac=\"c\"",
        ANEW,
        "signature of time and nonce",
    ),
    (
        "HMAC username=\"a\", headers=\"date\", signature=\"b\"",
        ANEW,
        "signature of the time",
    ),
    (
        "HMAC-SHA256 Credential=a&SignedHeaders=b&Signature=c",
        ANEW,
        "Azure App Configuration, Volcengine",
    ),
    (
        "acquia-http-hmac id=\"a\",nonce=\"b\",signature=\"c\"",
        ANEW,
        "signature of a nonce",
    ),
    ("IYZWS key:hash", ANEW, "hash with a random number"),
    ("IYZWSv2 YXBpS2V5OmE=", ANEW, "signature of a random number"),
    (
        "Kerberos YIIJvwYGKwYBBQUCoIIJszCC",
        ANEW,
        "a ticket with the time of this request",
    ),
    (
        "MAC id=\"a\", ts=\"1\", nonce=\"b\", mac=\"c\"",
        ANEW,
        "OAuth 2's MAC tokens",
    ),
    (
        "NTLM TlRMTVNTUAABAAAAB4IIogAAAAA=",
        ANEW,
        "a step of an exchange; the first is the same for all",
    ),
    ("OBS key:signature", ANEW, "Huawei Cloud"),
    (
        "SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=c",
        ANEW,
        "Huawei Cloud",
    ),
    ("OSS key:signature", ANEW, "Alibaba Cloud"),
    (
        "OSS4-HMAC-SHA256 Credential=a,Signature=b",
        ANEW,
        "Alibaba Cloud",
    ),
    ("Qiniu key:signature", ANEW, "Qiniu Cloud"),
    ("SharedKey account:signature", ANEW, "Azure Storage"),
    ("SharedKeyLite account:signature", ANEW, "Azure Storage"),
    (
        "Signature keyId=\"a\",headers=\"date\",signature=\"b\"",
        ANEW,
        "the drafts of HTTP signatures",
    ),
    (
        "TC3-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c",
        ANEW,
        "Tencent Cloud",
    ),
    (
        "WSSE profile=\"UsernameToken\"",
        ANEW,
        "the same for all: the digest has a header of its own",
    ),
    (
        "WECHATPAY2-SHA256-RSA2048 mchid=\"a\",nonce_str=\"b\",signature=\"c\"",
        ANEW,
        "WeChat Pay",
    ),
    (
        "ALIPAY-SHA256withRSA app_id=a,nonce=b,timestamp=1,sign=c",
        ANEW,
        "Alipay",
    ),
    (
        "AMZN-PAY-RSASSA-PSS-V2 PublicKeyId=a, SignedHeaders=b, Signature=c",
        ANEW,
        "Amazon Pay",
    ),
    ("V2-HMAC-SHA256, Signature: a", ANEW, "dLocal"),
    (
        "VERACODE-HMAC-SHA-256 id=a,ts=1,nonce=b,sig=c",
        ANEW,
        "Veracode",
    ),
    ("x_ed25519 a", ANEW, "named after its signature"),
    (
        "bce-auth-v1/key/2025-01-01T00:00:00Z/1800/host/signature",
        ANEW,
        "Baidu Cloud",
    ),
    (
        "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1;2&q-signature=b",
        ANEW,
        "Tencent Cloud's object store",
    ),
    // Lone words that are no scheme.
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", LASTS, "a raw token"),
    ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", LASTS, "a raw token"),
    ("PVEAPIToken=root@pam!ci=aaaa-bbbb", LASTS, "a raw token"),
    ("Bearer:abc", LASTS, "a raw token, as it stands"),
    ("sha256-of-a-key", LASTS, "a raw token, as it stands"),
    ("Bearers", LASTS, "not the name of a scheme"),
];
