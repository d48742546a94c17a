//! What all services of AWS have in common when something goes wrong. Owns what helps against it; refuses to know any of them.

use aws_credential_types::provider::error::CredentialsError;

/// What helps where a service refused, or could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// It may pass.
    Time,
    /// Somebody has to do this.
    People(&'static str),
    /// Nothing: the request is at fault.
    Nothing,
}

/// What people are told of credentials that do not do.
pub(crate) const CREDENTIALS: &str = "set credentials that hold, and the clock";

/// Does an error's code say that the credentials, or the clock that signs with them, are wrong?
pub(crate) fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "ExpiredToken"
            | "ExpiredTokenException"
    )
}

/// Are there none? Those that only cannot be reached may come.
pub(crate) fn has_no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        matches!(
            error.downcast_ref(),
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
        )
    })
}

/// The cause of all causes: those before it only say that something failed.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
