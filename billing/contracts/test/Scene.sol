// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Intercoin} from "../src/Intercoin.sol";
import {Settlement} from "../src/Settlement.sol";
import {Test} from "./Test.sol";

/// @dev The cast and the two contracts, as every test of Settlement finds them.
abstract contract Scene is Test {
    address internal constant ADMIN = address(0xA0);
    address internal constant OPERATOR = address(0xA1);
    address internal constant GUARDIAN = address(0xA2);
    address internal constant STRANGER = address(0xA3);
    address internal constant SALE = address(0xB1);
    address internal constant FOUNDERS = address(0xB2);
    address internal constant OWNER = address(0xC1);
    address internal constant OTHER_OWNER = address(0xC2);
    uint64 internal constant DELAY = 1 days;
    uint256 internal constant ESCROW = 1_000_000 * 10 ** 9;
    bytes32 internal constant USAGE = keccak256("usage");

    Intercoin internal token;
    Settlement internal settlement;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        token = new Intercoin(SALE, FOUNDERS);
        settlement = new Settlement(token, DELAY, ADMIN, OPERATOR, GUARDIAN);
        depositFor(SALE, ESCROW);
    }

    function depositFor(address account, uint256 amount) internal {
        vm.startPrank(SALE);
        token.approve(address(settlement), amount);
        settlement.deposit(account, amount);
        vm.stopPrank();
    }

    function leaf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    /// @dev The tree of two leaves: its root, and each leaf's proof is the other leaf.
    function rootOf(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left < right ? keccak256(bytes.concat(left, right)) : keccak256(bytes.concat(right, left));
    }

    function proofOf(bytes32 sibling) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = sibling;
    }

    function totals(uint256 cumulative) internal pure returns (Settlement.Totals memory) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return Settlement.Totals({cumulative: uint128(cumulative), accounts: 2, statements: 3});
    }

    function settleRoot(bytes32 root, uint256 cumulative) internal returns (uint256 epoch) {
        epoch = settlement.nextEpoch();
        vm.prank(OPERATOR);
        settlement.settle(epoch, root, USAGE, totals(cumulative));
    }

    /// @dev Settles two owners' cumulative amounts and returns the epoch's number.
    function settlePair(uint256 owner, uint256 other) internal returns (uint256) {
        return settleRoot(rootOf(leaf(OWNER, owner), leaf(OTHER_OWNER, other)), owner + other);
    }

    function pass(uint256 secondsLater) internal {
        vm.warp(block.timestamp + secondsLater);
    }
}
