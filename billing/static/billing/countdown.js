// Counts a lock down: <time data-countdown="SECONDS">. At zero the page is loaded again and says what to do.
"use strict";

for (const clock of document.querySelectorAll("[data-countdown]")) {
  const endsAt = performance.now() + Number(clock.dataset.countdown) * 1000;
  const tick = () => {
    const left = Math.max(0, Math.ceil((endsAt - performance.now()) / 1000));
    clock.textContent = `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s`;
    if (left > 0) setTimeout(tick, 500);
    else window.location.reload();
  };
  tick();
}
