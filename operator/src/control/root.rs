//! The Secret, in the operator's own namespace, that holds the root of all keys. It is made once.

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use super::{Root, keys::SECRET_BYTES};
use crate::names;

/// Key of the Secret.
const SEED: &str = "seed";

/// Why the root cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("Secret {secret} cannot be read or made: {source}")]
    ApiServer { secret: String, source: kube::Error },
    #[error(
        "Secret {secret} has no key `{SEED}` of {SECRET_BYTES} bytes: restore it, or delete it and another is made; nodes \
         then get new certificates within minutes"
    )]
    Unusable { secret: String },
    #[error("the system gives no random numbers: {0}")]
    Randomness(getrandom::Error),
}

/// Reads the Secret of that name, and makes it if there is none.
pub async fn obtain(client: &Client, namespace: &str, name: &str) -> Result<Root, RootError> {
    let secret = || format!("{namespace}/{name}");
    let unreachable = |source| RootError::ApiServer { secret: secret(), source };
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let found = match api.get_opt(name).await.map_err(unreachable)? {
        Some(found) => found,
        None => match api.create(&params(), &new(name)?).await {
            Ok(made) => made,
            // A fellow replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                api.get(name).await.map_err(unreachable)?
            }
            Err(error) => return Err(unreachable(error)),
        },
    };
    read(&found).ok_or_else(|| RootError::Unusable { secret: secret() })
}

fn params() -> PostParams {
    PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() }
}

fn new(name: &str) -> Result<Secret, RootError> {
    let mut seed = vec![0; SECRET_BYTES];
    getrandom::fill(&mut seed).map_err(RootError::Randomness)?;
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(names::own_labels()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        immutable: Some(true),
        data: Some([(SEED.into(), ByteString(seed))].into()),
        ..Secret::default()
    })
}

fn read(secret: &Secret) -> Option<Root> {
    let seed = &secret.data.as_ref()?.get(SEED)?.0;
    Some(Root::new(seed.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_again_and_differs_each_time() {
        let (one, other) = (new("a").unwrap(), new("a").unwrap());
        assert!(read(&one).is_some() && read(&one) == read(&one));
        assert!(read(&one) != read(&other));
    }

    #[test]
    fn a_secret_of_another_shape_is_not_taken() {
        let with = |data: &[(&str, usize)]| Secret {
            data: Some(
                data.iter().map(|(key, bytes)| ((*key).into(), ByteString(vec![1; *bytes]))).collect(),
            ),
            ..Secret::default()
        };
        assert!(read(&with(&[("seed", 32)])).is_some());
        for wrong in [with(&[]), with(&[("other", 32)]), with(&[("seed", 31)]), with(&[("seed", 33)])] {
            assert!(read(&wrong).is_none(), "{wrong:?}");
        }
    }
}
