//! async-nats against a broker: see `run` for the words it speaks with its driver.

use async_nats::jetstream::{self, consumer, stream};
use futures_util::{StreamExt, future::join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::io::AsyncBufReadExt;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Pull = consumer::Consumer<consumer::pull::Config>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("the address of a broker is needed")?;
    let count: usize = args.next().ok_or("a count is needed")?.parse()?;
    let options =
        async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(100));
    let client = options.connect(&url).await?;
    core(&client).await?;
    tokio::time::timeout(Duration::from_secs(300), durable(&client, count)).await?
}

async fn core(client: &async_nats::Client) -> Result<(), Error> {
    let mut sub = client.subscribe("greet.*").await?;
    for i in 0..100 {
        client.publish(format!("greet.{i}"), format!("{i}").into()).await?;
    }
    for i in 0..100 {
        let message = sub.next().await.ok_or("the subscription has ended")?;
        assert_eq!(message.payload, format!("{i}"));
    }
    println!("ok publish and subscribe");
    let mut service = client.subscribe("service").await?;
    let answers = client.clone();
    tokio::spawn(async move {
        while let Some(message) = service.next().await {
            if let Some(reply) = message.reply {
                let text = [b"re: ".as_slice(), &message.payload].concat();
                let _ = answers.publish(reply, text.into()).await;
            }
        }
    });
    client.flush().await?;
    let reply = client.request("service", "hi".into()).await?;
    assert_eq!(reply.payload, "re: hi");
    assert!(client.request("nobody", "hi".into()).await.is_err());
    println!("ok request");
    Ok(())
}

async fn publish(js: &jetstream::Context, i: usize) -> (usize, u64) {
    loop {
        let message = jetstream::message::PublishMessage::build()
            .message_id(i.to_string())
            .payload(i.to_string().into());
        if let Ok(ack) = js.send_publish(format!("rs.{i}"), message).await
            && let Ok(ack) = ack.await
        {
            return (i, ack.sequence);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn fetch(consumer: &Pull, seen: &mut Vec<usize>, wanted: usize) {
    loop {
        let distinct = seen.iter().collect::<BTreeSet<_>>().len();
        if distinct >= wanted {
            return;
        }
        let most = 250.min(wanted - distinct);
        let batch = consumer.fetch().max_messages(most).expires(Duration::from_secs(5));
        let Ok(mut batch) = batch.messages().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut messages = Vec::new();
        while let Some(Ok(message)) = batch.next().await {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            seen.push(text.parse().expect("a number"));
            messages.push(message);
        }
        for result in join_all(messages.iter().map(|message| message.double_ack())).await {
            result.expect("an acknowledgement is answered");
        }
    }
}

async fn durable(client: &async_nats::Client, count: usize) -> Result<(), Error> {
    let js = jetstream::new(client.clone());
    let config =
        stream::Config { name: "RS".into(), subjects: vec!["rs.>".into()], ..Default::default() };
    let mut stream = js.create_stream(config).await?;
    let mut acked = BTreeMap::new();
    for start in (0..count / 2).step_by(200) {
        let batch = start..(start + 200).min(count / 2);
        acked.extend(join_all(batch.map(|i| publish(&js, i))).await);
    }
    let config = consumer::pull::Config {
        durable_name: Some("D".into()),
        ack_wait: Duration::from_secs(300),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut seen = Vec::new();
    fetch(&consumer, &mut seen, count / 4).await;
    println!("RESTART");
    let mut line = String::new();
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    for start in (count / 2..count).step_by(200) {
        let batch = start..(start + 200).min(count);
        acked.extend(join_all(batch.map(|i| publish(&js, i))).await);
    }
    fetch(&consumer, &mut seen, count).await;
    let sequences: BTreeSet<u64> = acked.values().copied().collect();
    assert_eq!(sequences.len(), count, "two messages have one sequence");
    assert_eq!(stream.info().await?.state.messages, count as u64);
    println!("ok create a stream and publish with acks");
    let distinct: BTreeSet<usize> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), count, "messages are missing");
    println!("ok every acknowledged message after a restart");
    match seen.len() - distinct.len() {
        0 => println!("ok once"),
        twice => println!("twice {twice} messages came twice"),
    }
    Ok(())
}
