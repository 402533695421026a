// Says in words why a passkey or security key did not work.
"use strict";

document.addEventListener("allauth.error", (event) => {
  const error = event.detail.exception;
  const cancelled = error && (error.name === "NotAllowedError" || error.name === "AbortError");
  const known = error && error.name === "InvalidStateError";
  let notice = document.getElementById("passkey-error");
  if (!notice) {
    notice = document.createElement("p");
    notice.id = "passkey-error";
    notice.className = "notice notice-error";
    notice.setAttribute("role", "alert");
    const place = document.querySelector("main form") || document.querySelector("main");
    place.before(notice);
  }
  notice.textContent = cancelled
    ? "The passkey was not used. Try again, or take another way to sign in."
    : known
      ? "This device already has a passkey for your account."
      : "The passkey did not work on this device. Try again, or take another way to sign in.";
  event.preventDefault();
});
