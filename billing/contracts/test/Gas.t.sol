// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Settlement} from "../src/Settlement.sol";
import {Market} from "./Market.sol";
import {Trees} from "./Trees.sol";

/**
 * @dev What the calls of everyday life cost as whole transactions, calldata and the 21,000 of every transaction included
 * (Forge's `isolate`). `snapshots/` keeps the numbers in git; `test.sh` fails when one changes.
 *
 * forge-config: default.isolate = true
 */
contract GasTest is Market, Trees {
    uint256 internal constant LEVELS = 10; // a tree of up to 1,024 payees
    uint256 internal constant CROWD = 16; // payees of one relayed claim
    uint96 internal constant ANNOUNCED = 100_000 * 10 ** 9;

    Settlement.Epoch internal epoch;
    bytes32[] internal proof; // above the crowd's sixteen leaves

    function setUp() public override {
        super.setUp();
        open(TEN_CENTS);
        fund(BUYER, 10 ** 12);
        buy(1_000_000 * NTC);
        allocate(1_000_000 * NTC, "first");
        vm.startPrank(BUYER);
        ntc.approve(address(settlement), type(uint256).max);
        settlement.deposit(ACCOUNT, 1000 * NTC);
        vm.stopPrank();
        fund(BUYER, 10 ** 12);
        vm.deal(BUYER, 10 ether);
        vm.deal(TREASURY, 1 ether);
        _settle(12 * NTC);
        settlement.claimMany(epoch, _crowd(12 * NTC, 0));
        _settle(34 * NTC);
    }

    function _payee(uint256 number, bool fresh) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(number, fresh)))));
    }

    /// @dev Sixteen who were paid before and sixteen who were not, under the same root.
    function _settle(uint256 earned) private {
        (bytes32 old,) = _subtree(earned, false, 0);
        (bytes32 fresh,) = _subtree(earned, true, 0);
        bytes32 root;
        (root, proof) = deep(pair(old, fresh), LEVELS - 5);
        epoch = Settlement.Epoch(
            settlement.nextEpoch(), uint64(vm.getBlockTimestamp()) + DELAY, root, REFERENCE, ANNOUNCED
        );
        vm.prank(OPERATOR);
        settlement.settle(epoch.number, root, REFERENCE, _totals());
        pass(DELAY);
    }

    function _totals() private pure returns (Settlement.Totals memory) {
        uint128[5] memory meters =
            [uint128(5 * 10 ** 12 + 1), 9 * 10 ** 17 + 1, 7 * 10 ** 15 + 1, 36 * 10 ** 10 + 1, 1200];
        return Settlement.Totals(ANNOUNCED, 1000, 10_000, meters);
    }

    /// @dev The root above sixteen leaves and one leaf's proof in it.
    function _subtree(uint256 earned, bool fresh, uint256 place) private pure returns (bytes32, bytes32[] memory path) {
        bytes32[] memory row = new bytes32[](CROWD);
        path = new bytes32[](4);
        for (uint256 i = 0; i < CROWD; ++i) {
            row[i] = leaf(_payee(i, fresh), earned);
        }
        for (uint256 level = 0; level < 4; ++level) {
            path[level] = row[place ^ 1];
            for (uint256 i = 0; i < CROWD >> (level + 1); ++i) {
                row[i] = pair(row[2 * i], row[2 * i + 1]);
            }
            place /= 2;
        }
        return (row[0], path);
    }

    function _proof(uint256 earned, bool fresh, uint256 place) private view returns (bytes32[] memory whole) {
        (, bytes32[] memory path) = _subtree(earned, fresh, place);
        (bytes32 sibling,) = _subtree(earned, !fresh, 0);
        whole = new bytes32[](LEVELS);
        for (uint256 i = 0; i < LEVELS; ++i) {
            whole[i] = i < 4 ? path[i] : i == 4 ? sibling : proof[i - 5];
        }
    }

    /// @dev All sixteen of one kind, each with the whole proof.
    function _crowd(uint256 earned, uint256 kind) private view returns (Settlement.Claimant[] memory crowd) {
        crowd = new Settlement.Claimant[](CROWD);
        for (uint256 i = 0; i < CROWD; ++i) {
            crowd[i] = Settlement.Claimant(_payee(i, kind == 1), earned, _proof(earned, kind == 1, i));
        }
    }

    function test_Settle() public {
        uint64 next = settlement.nextEpoch();
        vm.prank(OPERATOR);
        settlement.settle(next, keccak256("payouts"), REFERENCE, _totals());
        vm.assertLe(vm.snapshotGasLastCall("settle"), 45_000);
    }

    function test_Claim() public {
        bytes32[] memory path = _proof(34 * NTC, false, 3);
        settlement.claim(epoch, _payee(3, false), 34 * NTC, path);
        vm.snapshotGasLastCall("claim again, 10 levels");
    }

    function test_ClaimForTheFirstTime() public {
        bytes32[] memory path = _proof(34 * NTC, true, 3);
        settlement.claim(epoch, _payee(3, true), 34 * NTC, path);
        vm.snapshotGasLastCall("claim for the first time, 10 levels");
    }

    function test_ClaimMany() public {
        Settlement.Claimant[] memory crowd = _crowd(34 * NTC, 0);
        settlement.claimMany(epoch, crowd);
        vm.assertLe(vm.snapshotGasLastCall("claimMany again, 16 payees, 10 levels") / CROWD, 55_000);
    }

    function test_ClaimManyForTheFirstTime() public {
        Settlement.Claimant[] memory crowd = _crowd(34 * NTC, 1);
        settlement.claimMany(epoch, crowd);
        vm.snapshotGasLastCall("claimMany for the first time, 16 payees, 10 levels");
    }

    function test_Deposit() public {
        vm.prank(BUYER);
        settlement.deposit(ACCOUNT, NTC);
        vm.snapshotGasLastCall("deposit again");
    }

    function test_Transfer() public {
        vm.prank(BUYER);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        ntc.transfer(address(settlement), NTC);
        vm.snapshotGasLastCall("transfer to a holder");
    }

    function test_BuyWithStablecoin() public {
        vm.prank(BUYER);
        sale.buyWithStablecoin(NTC, 10 ** 12, 0);
        vm.snapshotGasLastCall("buyWithStablecoin");
    }

    function test_BuyWithEther() public {
        vm.prank(BUYER);
        sale.buyWithEther{value: 1 ether}(0, 0);
        vm.snapshotGasLastCall("buyWithEther");
    }

    function test_Allocate() public {
        vm.prank(CASHIER);
        sale.allocate(ACCOUNT, NTC, REFERENCE);
        vm.snapshotGasLastCall("allocate");
    }
}
