// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {Intercoin} from "../src/Intercoin.sol";
import {Test} from "./Test.sol";

contract IntercoinTest is Test {
    address internal constant SALE = address(0xB1);
    address internal constant FOUNDERS = address(0xB2);
    uint256 internal constant KEY = 0xC0FFEE;

    Intercoin internal token;

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new Intercoin(SALE, FOUNDERS);
    }

    function test_TheWholeSupplyIsMintedOnce() public view {
        vm.assertEq(token.totalSupply(), 25_000_000 * 10 ** 9);
        vm.assertEq(token.balanceOf(SALE), 20_000_000 * 10 ** 9);
        vm.assertEq(token.balanceOf(FOUNDERS), 5_000_000 * 10 ** 9);
    }

    function test_OneHolderMayHaveBothShares() public {
        vm.assertEq(new Intercoin(SALE, SALE).balanceOf(SALE), 25_000_000 * 10 ** 9);
    }

    function test_NobodyCannotBeAHolder() public {
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(0)));
        new Intercoin(address(0), FOUNDERS);
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(0)));
        new Intercoin(SALE, address(0));
    }

    function test_ItsNameSymbolAndNineDecimals() public view {
        vm.assertEq(token.name(), "Intercoin");
        vm.assertEq(token.symbol(), "NTC");
        vm.assertEq(token.decimals(), 9);
    }

    function testFuzz_ATransferMovesAndNeverMints(address to, uint256 amount) public {
        vm.assume(to != address(0) && to != SALE && to != FOUNDERS);
        amount = within(amount, 0, token.balanceOf(SALE));
        vm.prank(SALE);
        vm.assertTrue(token.transfer(to, amount));
        vm.assertEq(token.balanceOf(to), amount);
        vm.assertEq(token.totalSupply(), 25_000_000 * 10 ** 9);
    }

    function test_ATransferOfMoreThanTheBalanceIsRefused() public {
        uint256 balance = token.balanceOf(SALE);
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, SALE, balance, balance + 1));
        vm.prank(SALE);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(FOUNDERS, balance + 1);
    }

    function test_APermitApprovesOnce() public {
        address owner = vm.addr(KEY);
        (uint8 v, bytes32 r, bytes32 s) = _permit(7, block.timestamp);
        token.permit(owner, SALE, 7, block.timestamp, v, r, s);
        vm.assertEq(token.allowance(owner, SALE), 7);
        vm.assertEq(token.nonces(owner), 1);
    }

    function test_ALatePermitIsRefused() public {
        uint256 deadline = block.timestamp - 1;
        (uint8 v, bytes32 r, bytes32 s) = _permit(7, deadline);
        refuses(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, deadline));
        token.permit(vm.addr(KEY), SALE, 7, deadline, v, r, s);
    }

    function _permit(uint256 amount, uint256 deadline) private view returns (uint8, bytes32, bytes32) {
        bytes32 permit = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content = keccak256(abi.encode(permit, vm.addr(KEY), SALE, amount, 0, deadline));
        return vm.sign(KEY, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), content)));
    }
}
