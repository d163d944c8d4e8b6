//! Builds container images from static programs: one layer on nothing, numeric user, no shell, no daemon needed.
//!
//! The archive is an OCI layout that also carries Docker's index, so containerd, Docker, Podman and skopeo all read
//! it. It is a pure function of its inputs: equal programs make equal bytes, and so equal tags.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Every image's name begins with this: a name with a host part is never looked up in a public registry.
pub const PREFIX: &str = "localhost/chat/";
/// The user and group that images run as, unless told otherwise.
pub const USER: &str = "65532:65532";

/// What goes into an image.
#[derive(Debug, Clone, Default)]
pub struct ImageSpec {
    /// The last part of the name: `chat-node` makes `localhost/chat/chat-node`.
    pub name: String,
    /// `None` makes a tag of the content's hash.
    pub tag: Option<String>,
    /// The program; it becomes `/NAME` and the entry point.
    pub binary: PathBuf,
    /// The program is one of this machine's, and takes the shared libraries along that it is linked to; otherwise it
    /// has to be static.
    pub with_libraries: bool,
    /// Further files: path inside, and where it is on this machine.
    pub files: BTreeMap<String, PathBuf>,
    /// Symbolic links: path inside, and what it points to.
    pub links: BTreeMap<String, String>,
    /// `None` means [`USER`].
    pub user: Option<String>,
    /// Labels beside the title.
    pub labels: BTreeMap<String, String>,
}

/// An image on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The full name to put into a pod, with `imagePullPolicy: Never` or `IfNotPresent`.
    pub reference: String,
    pub archive: PathBuf,
    pub bytes: u64,
}

/// Builds an image into `directory`.
///
/// # Errors
/// When a file cannot be read, the program is not static, or the directory cannot be written.
pub fn build(spec: &ImageSpec, directory: &Path) -> Result<Image> {
    let program = fs::read(&spec.binary)
        .with_context(|| format!("cannot read the program {}", spec.binary.display()))?;
    if !spec.with_libraries {
        require_static(&program, &spec.binary)?;
    }
    let layer = layer(spec, &program)?;
    let layer_digest = sha256(&layer);
    let mut labels = spec.labels.clone();
    labels.insert("org.opencontainers.image.title".to_owned(), spec.name.clone());
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {
            "User": spec.user.as_deref().unwrap_or(USER),
            "Entrypoint": [format!("/{}", spec.name)],
            "Env": ["PATH=/bin:/"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    });
    let config = serde_json::to_vec(&config)?;
    let config_digest = sha256(&config);
    // The configuration names the layer by its digest, so its own digest covers everything.
    let tag = spec.tag.clone().unwrap_or_else(|| config_digest[..16].to_owned());
    let reference = format!("{PREFIX}{}:{tag}", spec.name);
    let archive = directory.join(format!("{}-{tag}.tar", spec.name));
    let bytes =
        write_archive(&archive, &reference, &tag, (&config_digest, &config), (&layer_digest, &layer))?;
    Ok(Image { reference, archive, bytes })
}

fn write_archive(
    archive: &Path,
    reference: &str,
    tag: &str,
    (config_digest, config): (&str, &[u8]),
    (layer_digest, layer): (&str, &[u8]),
) -> Result<u64> {
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config_digest, config.len()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer_digest, layer.len())],
    }))?;
    let manifest_digest = sha256(&manifest);
    let mut entry =
        descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len());
    entry["annotations"] =
        json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag});
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    let docker = json!([{
        "Config": blob(config_digest), "RepoTags": [reference], "Layers": [blob(layer_digest)],
    }]);

    let directory = archive.parent().context("an image's archive needs a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Readers see the old archive or the new one, never a part.
    let part = archive.with_extension(format!("{}.part", std::process::id()));
    let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut tar = Builder::new(file);
    append_file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append_file(&mut tar, "index.json", &serde_json::to_vec(&index)?, 0o644)?;
    append_file(&mut tar, "manifest.json", &serde_json::to_vec(&docker)?, 0o644)?;
    for (digest, bytes) in
        [(manifest_digest.as_str(), &manifest[..]), (config_digest, config), (layer_digest, layer)]
    {
        append_file(&mut tar, &blob(digest), bytes, 0o644)?;
    }
    let file = tar.into_inner()?;
    let bytes = file.metadata()?.len();
    fs::rename(&part, archive).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(bytes)
}

/// The image's one layer, as a tar in which nothing depends on when or by whom it was made.
fn layer(spec: &ImageSpec, program: &[u8]) -> Result<Vec<u8>> {
    if spec.name.is_empty()
        || !spec.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        bail!("an image's name has only lower-case letters, digits and dashes, not {:?}", spec.name);
    }
    let mut tar = Builder::new(Vec::with_capacity(program.len() + 64 * 1024));
    append_file(&mut tar, &spec.name, program, 0o755)?;
    for library in if spec.with_libraries { libraries(&spec.binary)? } else { Vec::new() } {
        let bytes = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
        let inside = library.strip_prefix("/").unwrap_or(&library).display().to_string();
        // The loader among them is a program.
        append_file(&mut tar, &inside, &bytes, 0o755)?;
    }
    for (inside, source) in &spec.files {
        let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        append_file(&mut tar, inside.trim_start_matches('/'), &bytes, 0o644)?;
    }
    for (inside, target) in &spec.links {
        let mut header = header(EntryType::Symlink, 0, 0o777);
        tar.append_link(&mut header, inside.trim_start_matches('/'), target)?;
    }
    Ok(tar.into_inner()?)
}

/// The shared libraries of a program of this machine, the loader among them, where the loader looks for them.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd").arg(binary).output().context("cannot run ldd")?;
    if !output.status.success() {
        bail!("{} is no dynamic program of this machine", binary.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found = |line: &str| {
        let place = line.split("=>").last()?.split_whitespace().next()?;
        place.starts_with('/').then(|| PathBuf::from(place))
    };
    Ok(text.lines().filter_map(found).collect())
}

fn append_file(tar: &mut Builder<impl Write>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(EntryType::Regular, bytes.len() as u64, mode);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("cannot add {path} to the image"))
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that the image format has for this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A program that needs an interpreter would fail in an empty image with a riddle ("no such file or directory").
fn require_static(program: &[u8], path: &Path) -> Result<()> {
    let word = |at: usize, size: usize| {
        let bytes = program.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0usize, |value, &byte| value << 8 | usize::from(byte)))
    };
    let headers = || Some((word(0x20, 8)?, word(0x36, 2)?, word(0x38, 2)?));
    let little_endian_64 = program.starts_with(b"\x7fELF\x02\x01");
    let (true, Some((offset, size, count))) = (little_endian_64, headers()) else {
        bail!("{} is not a 64-bit Linux program", path.display());
    };
    const INTERPRETER: usize = 3;
    if (0..count).any(|index| word(offset + index * size, 4) == Some(INTERPRETER)) {
        bail!(
            "{} is not static, and an image has no libraries; build it with \
             RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busybox(tag: Option<&str>) -> ImageSpec {
        ImageSpec {
            name: "busybox".to_owned(),
            tag: tag.map(str::to_owned),
            binary: "/bin/busybox".into(),
            links: BTreeMap::from([("bin/sh".to_owned(), "/busybox".to_owned())]),
            ..ImageSpec::default()
        }
    }

    fn scratch(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("devcluster-images-{test}-{}", std::process::id()))
    }

    #[test]
    fn equal_content_makes_equal_archives() {
        let dir = scratch("equal");
        let (one, two) = (dir.join("one"), dir.join("two"));
        let a = build(&busybox(None), &one).unwrap();
        let b = build(&busybox(None), &two).unwrap();
        assert_eq!(a.reference, b.reference);
        assert!(fs::read(&a.archive).unwrap() == fs::read(&b.archive).unwrap());
        let mut other = busybox(None);
        other.user = Some("0:0".to_owned());
        assert_ne!(build(&other, &one).unwrap().reference, a.reference);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_archive_names_its_image_for_both_formats() {
        let dir = scratch("names");
        let image = build(&busybox(Some("dev")), &dir).unwrap();
        assert_eq!(image.reference, "localhost/chat/busybox:dev");
        let mut texts = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(&image.archive).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if path.ends_with(".json") {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                texts.insert(path, text);
            }
        }
        assert!(texts["index.json"].contains(r#""io.containerd.image.name":"localhost/chat/busybox:dev""#));
        assert!(texts["manifest.json"].contains(r#""RepoTags":["localhost/chat/busybox:dev"]"#));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_program_with_libraries_is_refused() {
        let spec = ImageSpec { name: "sh".to_owned(), binary: "/bin/sh".into(), ..ImageSpec::default() };
        let error = build(&spec, &scratch("dynamic")).unwrap_err();
        assert!(error.to_string().contains("not static"), "{error}");
    }

    #[test]
    fn a_text_is_not_a_program() {
        let spec =
            ImageSpec { name: "hosts".to_owned(), binary: "/etc/hosts".into(), ..ImageSpec::default() };
        assert!(build(&spec, &scratch("text")).is_err());
    }
}
