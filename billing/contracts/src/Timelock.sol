// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// The admin of Settlement and TokenSale is OpenZeppelin's timelock as it stands; named here so that it is compiled with them.
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol"; // forge-lint: disable-line(unused-import)
