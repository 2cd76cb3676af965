//! nginx as it stands in front of model servers.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use inferscope_tests::{pki::Pki, place};

use crate::scenario::Room;

/// What nginx is to be.
pub struct Proxy<'a> {
    /// Directives of the main context: how many processes it has.
    pub processes: &'a str,
    /// Speaks HTTP/2.
    pub http2: bool,
    /// Speaks TLS with this certificate.
    pub pki: Option<&'a Pki>,
    /// Port of the plain server behind it.
    pub upstream: u16,
}

impl Proxy<'_> {
    /// A command that runs it in the foreground, and the port that it will listen on. It says `event method` on standard error
    /// when it listens.
    pub fn command(&self, room: &Room) -> Result<(Command, u16)> {
        let port = place::free_port()?;
        let (dir, config) = (room.file("nginx"), room.file("nginx.conf"));
        fs::create_dir(&dir)?;
        fs::write(&config, self.text(port, &dir))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(config);
        Ok((command, port))
    }

    fn text(&self, port: u16, dir: &Path) -> String {
        let dir = dir.display();
        let Self { processes, upstream, .. } = self;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        let ssl = if self.pki.is_some() { " ssl" } else { "" };
        let http2 = if self.http2 { " http2" } else { "" };
        let tls = self.pki.map_or_else(String::new, |pki| {
            format!("ssl_certificate {}; ssl_certificate_key {};", pki.cert.display(), pki.key.display())
        });
        format!(
            "daemon off; {processes} pid {dir}/pid; error_log stderr notice;
events {{}}
http {{
  access_log off; client_max_body_size 4m; {temporary}
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port}{ssl}{http2}; {tls}
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
    }}
  }}
}}
"
        )
    }
}
