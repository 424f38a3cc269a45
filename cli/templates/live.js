// Follows a run: asks for what is new, and puts it in the place of what was there.
"use strict";
(() => {
  const report = document.getElementById("report");
  const link = document.getElementById("link");
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const say = (state, text) => {
    link.dataset.link = state;
    link.textContent = text;
  };
  const show = (html) => {
    const places = [...report.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    report.innerHTML = html;
    report.querySelectorAll(".scroll").forEach((box, n) => {
      box.scrollLeft = places[n] || 0;
    });
    document.title = report.querySelector("h1").textContent + " · wirerate";
  };
  const follow = async () => {
    let version = 0;
    let failures = 0;
    for (let updates = 0; ; ) {
      try {
        const answer = await fetch("/live?after=" + version + "&id=" + id, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        failures = 0;
        if (answer.status === 204) continue;
        version = Number(answer.headers.get("x-version"));
        show(await answer.text());
        updates += 1;
        link.dataset.updates = updates;
        const state = report.querySelector("article").dataset.state;
        if (state !== "running") {
          say("ended", state === "complete" ? "The run has ended: this is its report." : "The run has ended without a report.");
          return;
        }
        say("open", "live");
        await pause(200);
      } catch {
        failures += 1;
        if (failures > 30) {
          say("lost", "The program does not answer any more: this is what was known last.");
          return;
        }
        say("lost", "No answer; trying again.");
        await pause(500);
      }
    }
  };
  follow();
})();
