// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

/**
 * @dev What the calls of everyday life cost as whole transactions, calldata and the 21,000 of every transaction included
 * (Forge's `isolate`). `snapshots/` keeps the numbers in git; `test.sh` fails when one changes.
 *
 * forge-config: default.isolate = true
 */
contract GasTest is Scene {
    uint256 internal constant PROOF = 10; // levels: up to 1,024 payees

    Settlement.Epoch internal first;
    Settlement.Epoch internal second;
    bytes32[] internal proof;

    function setUp() public override {
        super.setUp();
        bytes32 root;
        (root, proof) = deep(leaf(OWNER, 12 * 10 ** 9), PROOF);
        first = settleRoot(root, 500_000 * 10 ** 9);
        pass(DELAY);
        settlement.claim(first, OWNER, 12 * 10 ** 9, proof);
        (root, proof) = deep(leaf(OWNER, 34 * 10 ** 9), PROOF);
        second = settleRoot(root, 500_100 * 10 ** 9);
        pass(DELAY);
    }

    function test_Settle() public {
        uint64 next = settlement.nextEpoch();
        vm.prank(OPERATOR);
        settlement.settle(next, keccak256("payouts"), USAGE, totals(500_100 * 10 ** 9));
        vm.assertLe(vm.snapshotGasLastCall("settle"), 45_000);
    }

    function test_ClaimAgain() public {
        settlement.claim(second, OWNER, 34 * 10 ** 9, proof);
        vm.assertLe(vm.snapshotGasLastCall("claim again, 10 levels"), 55_000);
    }
}
