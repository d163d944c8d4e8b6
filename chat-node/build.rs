//! Embeds the web page: every file in `web/` becomes an entry of a table with its path, type, contents and hash.

use std::{env, error::Error, fmt::Write, fs, hash::Hasher, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("web");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);

    let mut table = String::from("&[\n");
    for file in files {
        let name =
            file.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        let Some(content_type) = content_type(&name) else { continue };
        println!("cargo::rerun-if-changed={}", file.path().display());
        let mut hash = std::hash::DefaultHasher::new();
        hash.write(&fs::read(file.path())?);
        let path = if name == "index.html" { String::from("/") } else { format!("/{name}") };
        writeln!(
            table,
            "    Asset {{ path: {path:?}, content_type: {content_type:?}, etag: \"\\\"{:016x}\\\"\", body: include_bytes!({:?}) }},",
            hash.finish(),
            file.path(),
        )?;
    }
    table.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("assets.rs"), table)?;
    Ok(())
}

/// What is served; anything else in the folder (tests, notes) is not.
fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        _ => return None,
    })
}
