// Keeps an order's page true without reloading it: asks for news, which the shop answers as soon as there is some.
"use strict";

const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

const order = document.getElementById("order");
const unasked = document.getElementById("unasked");

async function follow() {
  let version = order.dataset.version;
  let pause = SHORTEST_PAUSE_MS;
  for (;;) {
    try {
      const answer = await fetch(`${order.dataset.state}?version=${version}`);
      if (answer.status === 404) {
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(`answered ${answer.status}`);
      const news = await answer.json();
      version = news.version;
      for (const [id, html] of Object.entries(news.parts)) show(document.getElementById(id), html);
      unasked.hidden = true;
      pause = SHORTEST_PAUSE_MS;
    } catch {
      unasked.hidden = false;
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// What is the same stays as it is, so that it is not read out again; the focus goes to what came in its place.
function show(place, html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  if (made.innerHTML === place.innerHTML) return;
  const hadFocus = place.contains(document.activeElement);
  place.replaceChildren(made.content);
  if (hadFocus) (place.querySelector("button, a") ?? order.querySelector("h1")).focus();
}

follow();
