//! A node behind real HTTP, whose every answer can be spoiled on its way.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::node::Node;

/// Serves `node`. `spoil` is handed the methods of a packet and the true body, and gives what is sent instead.
pub(crate) async fn serve(node: Node, mut spoil: impl FnMut(&[String], Value) -> Vec<u8> + Send + 'static) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = read(&mut stream).await else { continue };
            let packet: Value = serde_json::from_slice(&request).unwrap();
            let calls = packet.as_array().cloned().unwrap_or_else(|| vec![packet.clone()]);
            let methods: Vec<String> = calls.iter().map(|call| call["method"].as_str().unwrap().to_owned()).collect();
            let answers: Vec<Value> = calls.iter().map(|call| answer(&node, call)).collect();
            let truth = if packet.is_array() { json!(answers) } else { answers[0].clone() };
            let body = spoil(&methods, truth);
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    format!("http://127.0.0.1:{port}").parse().unwrap()
}

fn answer(node: &Node, call: &Value) -> Value {
    match node.answer(call["method"].as_str().unwrap(), &call["params"]) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": code, "message": message } })
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&chunk[..count]);
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.trim().parse::<usize>().ok()?;
        if request.len() >= end + 4 + length {
            return Some(request.split_off(end + 4));
        }
    }
}
