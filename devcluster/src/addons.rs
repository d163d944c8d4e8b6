//! What a Kubernetes needs inside itself: DNS, storage, metrics; their images and manifests.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tracing::info;

use crate::images::{Image, ImageSpec, PREFIX, build};
use crate::layout::{DNS_SERVICE, cache};
use crate::prune;
use crate::requirements::find_program;
use crate::tools::{Programs, tool_of};

const MANIFESTS: [&str; 4] = [
    include_str!("../addons/policy-enforcer.yaml"),
    include_str!("../addons/coredns.yaml"),
    include_str!("../addons/local-path.yaml"),
    include_str!("../addons/metrics-server.yaml"),
];

/// The programs that become images; every pod begins with the first.
const IMAGES: [&str; 4] = ["pause", "coredns", "local-path-provisioner", "metrics-server"];

/// The applets that shell scripts in tests and helper pods use.
const APPLETS: [&str; 28] = [
    "cat", "cp", "date", "dd", "df", "echo", "env", "grep", "head", "hostname", "httpd", "id", "ip", "ls",
    "mkdir", "nc", "nslookup", "ping", "ps", "rm", "sed", "sh", "sleep", "test", "timeout", "touch", "wc",
    "wget",
];

/// The add-ons' images by their names, the pause image among them.
pub(crate) type Images = BTreeMap<String, Image>;

/// Builds the images that the cache does not have.
pub(crate) fn ensure_images(programs: &Programs) -> Result<Images> {
    let mut images = Images::new();
    for name in IMAGES {
        let spec = ImageSpec {
            name: name.to_owned(),
            // The tool's key stands for the whole program.
            tag: Some(tool_of(name).key()),
            binary: programs.path(name),
            ..ImageSpec::default()
        };
        images.insert(name.to_owned(), cached(&spec)?);
    }
    images.insert("busybox".to_owned(), busybox_image()?);
    prune::prune(&image_cache()?)?;
    Ok(images)
}

/// A shell for helper pods and tests.
pub(crate) fn busybox_image() -> Result<Image> {
    let binary = find_program("busybox").context("busybox is not in PATH")?;
    let links = APPLETS.iter().map(|applet| (format!("bin/{applet}"), "/busybox".to_owned()));
    let spec = ImageSpec {
        name: "busybox".to_owned(),
        binary,
        links: links.chain([("bin/busybox".to_owned(), "/busybox".to_owned())]).collect(),
        ..ImageSpec::default()
    };
    build(&spec, &image_cache()?)
}

fn cached(spec: &ImageSpec) -> Result<Image> {
    let tag = spec.tag.as_deref().context("a cached image has a tag")?;
    let archive = image_cache()?.join(format!("{}-{tag}.tar", spec.name));
    match fs::metadata(&archive) {
        Ok(metadata) => {
            prune::used(&archive)?;
            Ok(Image { reference: format!("{PREFIX}{}:{tag}", spec.name), archive, bytes: metadata.len() })
        }
        Err(_) => {
            info!("building the image {}", spec.name);
            build(spec, &image_cache()?)
        }
    }
}

fn image_cache() -> Result<PathBuf> {
    Ok(cache()?.join("images"))
}

/// All manifests as one text, with images and addresses filled in.
pub(crate) fn manifests(images: &Images, nodes: usize) -> Result<String> {
    let mut text = MANIFESTS.join("\n---\n");
    for (name, image) in images {
        let variable = format!("${{IMAGE_{}}}", name.to_uppercase().replace('-', "_"));
        text = text.replace(&variable, &image.reference);
    }
    // One per node up to two: the loss of a node does not end name resolution.
    let replicas = nodes.min(2).to_string();
    text = text.replace("${DNS_REPLICAS}", &replicas).replace("${DNS_SERVICE}", &DNS_SERVICE.to_string());
    ensure!(!text.contains("${"), "a manifest has a variable that nothing fills in");
    Ok(text)
}

/// The workloads to wait for: namespace and Deployment.
pub(crate) const DEPLOYMENTS: [(&str, &str); 3] = [
    ("kube-system", "coredns"),
    ("local-path-storage", "local-path-provisioner"),
    ("kube-system", "metrics-server"),
];

/// Asks the cluster's name server for the API server's name, from the host.
pub(crate) fn check_dns() -> Result<()> {
    const QUERY_ID: [u8; 2] = [0x63, 0x68];
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let server = SocketAddr::new(IpAddr::V4(DNS_SERVICE), 53);
    socket.send_to(&dns_query(QUERY_ID, "kubernetes.default.svc.cluster.local"), server)?;
    let mut answer = [0; 512];
    let size = socket.recv(&mut answer).context("the cluster's name server does not answer")?;
    let ok = size > 12 && answer[..2] == QUERY_ID && answer[3] & 0x0f == 0 && answer[6..8] != [0, 0];
    if !ok {
        bail!("the cluster's name server does not know kubernetes.default.svc.cluster.local");
    }
    Ok(())
}

/// A question for the IPv4 addresses of a name (RFC 1035, section 4.1).
fn dns_query(id: [u8; 2], name: &str) -> Vec<u8> {
    let mut query = id.to_vec();
    query.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("labels are shorter than 64"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Whether two files are the same archive, as far as name, size and time tell.
pub(crate) fn fingerprint(archive: &Path) -> Result<String> {
    let metadata = fs::metadata(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    Ok(format!("{} {:?}", metadata.len(), metadata.modified()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        let image = |name: &str| Image {
            reference: format!("{PREFIX}{name}:1"),
            archive: PathBuf::from(name),
            bytes: 1,
        };
        IMAGES.iter().chain(&["busybox"]).map(|name| ((*name).to_owned(), image(name))).collect()
    }

    #[test]
    fn manifests_are_filled_in() {
        let text = manifests(&images(), 1).unwrap();
        assert!(text.contains("image: localhost/chat/local-path-provisioner:1"), "{text}");
        assert!(text.contains("replicas: 1"));
        assert!(manifests(&images(), 3).unwrap().contains("replicas: 2"));
    }

    #[test]
    fn a_missing_image_is_not_overlooked() {
        let mut images = images();
        images.remove("coredns");
        assert!(manifests(&images, 1).is_err());
    }

    #[test]
    fn a_query_has_its_name_in_labels() {
        assert_eq!(dns_query([1, 2], "a.bc")[12..], *b"\x01a\x02bc\x00\x00\x01\x00\x01");
    }
}
