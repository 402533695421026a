// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Scene} from "./Scene.sol";

/// @dev What the calls of everyday life cost; `.gas-snapshot` keeps the numbers. Setting up is not counted.
contract GasTest is Scene {
    uint256 internal first;
    uint256 internal second;
    bytes32[] internal proof;

    function setUp() public override {
        super.setUp();
        first = settlePair(10, 5);
        second = settlePair(25, 5);
        pass(DELAY);
        proof = proofOf(leaf(OTHER_OWNER, 5));
        settlement.claim(first, OWNER, 10, proof);
        vm.prank(SALE);
        token.approve(address(settlement), type(uint256).max);
    }

    function test_Settle() public {
        vm.prank(OPERATOR);
        settlement.settle(3, USAGE, USAGE, totals(30));
    }

    function test_ClaimAgain() public {
        settlement.claim(second, OWNER, 25, proof);
    }

    function test_ClaimForTheFirstTime() public {
        settlement.claim(second, OTHER_OWNER, 5, proofOf(leaf(OWNER, 25)));
    }

    function test_Deposit() public {
        vm.prank(SALE);
        settlement.deposit(OWNER, 5);
    }

    function test_Transfer() public {
        vm.prank(SALE);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(FOUNDERS, 5);
    }
}
