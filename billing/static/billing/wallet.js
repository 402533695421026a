// Offers to sign with a wallet in the browser (EIP-1193). Without one, the person signs elsewhere and pastes the result.
"use strict";

for (const form of document.querySelectorAll("form[data-wallet]")) {
  const button = form.querySelector("[data-wallet-sign]");
  const said = form.querySelector("[data-wallet-said]");
  if (!window.ethereum || !button) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = form.elements.namedItem("message").value;
    const bytes = Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");
    try {
      const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
      const signature = await window.ethereum.request({ method: "personal_sign", params: ["0x" + bytes, account] });
      form.elements.namedItem("signature").value = signature;
      form.requestSubmit();
    } catch (error) {
      said.textContent = error && error.code === 4001
        ? "You did not sign. Nothing was changed."
        : "The wallet could not sign. Open it, or paste a signature.";
    }
  });
}
